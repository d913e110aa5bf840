"""The experiments on what is read, for many keys at once, have the numbers of `test_open`."""

from types import SimpleNamespace

import numpy as np
import pytest
from radscore.audits.open import test_open as opened

from tools.experiments.api import MOST, weights_of
from tools.experiments.places import read_places
from tools.experiments.settings import RECIPE, alice

from .reading_server import ReadingServer
from .test_reading import behind, fresh, models, words  # noqa: F401

N_TEXTS = 12


class Readings:
    """What `tools.experiments.api.Readings` tells of texts, read here and now.

    Probabilities are kept in half precision, which moves z by up to .02.
    """

    def __init__(self, known, texts):
        self._models, self._texts = known, np.array(texts)
        self.bench = SimpleNamespace(recipe=RECIPE, texts=lambda pool: self._texts)

    def places(self, kind, who):
        given = {"p": who, "q0": "reference", "qb": "control"}
        made = {name: lambda m=m: self._models[m].model for name, m in given.items()}
        # of a text the last place as well, whatever stands there
        rows = np.column_stack([self._texts, np.zeros(len(self._texts), np.int64)])
        return read_places(made, rows, first=2, width=2, most=MOST)


@pytest.mark.parametrize("seen", ["20", "5", "logits"])
def test_rows_of_what_is_read_are_those_of_test_open(seen, models, words, fresh):  # noqa: F811
    texts = fresh[:N_TEXTS]
    references = {"matched": models["reference"], "base": models["control"]}
    references["both"] = list(references.values())
    units, weights = weights_of(Readings(models, texts), "read", "rho-10")
    expected = units.z(weights, alice())
    given = {"text_watermarked": False}
    if seen == "logits":  # of 256 weights instead of the likeliest tokens'
        for name, reference in references.items():
            found = opened(models["rho-10"], texts, alice(), reference=reference, **given)
            assert found.score.zscore == pytest.approx(expected[f"logits read {name}"], abs=0.03)
        return
    with (
        ReadingServer(models["rho-10"].model, words, {"vllm"}) as server,
        behind(server, logprobs=int(seen)) as model,
    ):
        for name, reference in references.items():
            found = opened(model, texts, alice(), reference=reference, **given)
            assert found.score.zscore == pytest.approx(expected[f"{seen} read {name}"], abs=0.03)
