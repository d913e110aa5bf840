"""Property: what documents share is what the twin says, however they are split over calls."""

from dataclasses import replace

import numpy as np
import pytest
import radscore as rs
from catalog import FAMILIES, Case, cases, examples, public_of
from hypothesis import given
from hypothesis import strategies as st
from radscore import _core
from radscore.scoring.per_document import score_batch

from tests.twin import pipeline

COUNTS = ("windows", "excluded", "filtered", "duplicates", "keyless", "shared", "scored", "common")
RULES = ("unit", "window", "context", "none")


def repeated(data, case: Case) -> Case:
    """The documents of a case, most of them several times, some cut or joined, in any order."""
    n = len(case.documents)
    places = data.draw(st.lists(st.integers(0, n - 1), max_size=14)) if n else []
    documents = []
    for i in places:
        document = case.documents[i]
        form = data.draw(st.sampled_from(["same", "same", "cut", "joined"]))
        if form == "cut":
            document = document[: data.draw(st.integers(0, len(document)))]
        elif form == "joined":
            document = [*document, *case.documents[data.draw(st.integers(0, n - 1))]]
        documents.append(document)
    prompts = None if case.prompts is None else [case.prompts[i] for i in places]
    return replace(case, documents=documents, prompts=prompts, combine="one", weights=None)


def options_of(twin, case):
    phi = None
    if case.filter is not None:
        width = twin.window_width - 1
        phi = rs.KgramSet.from_kgrams(sorted(case.filter), twin.vocab_size, width=width)
    names = ("start", "threads", "prompt_role")
    return {"filter": phi, **{name: getattr(case, name) for name in names}}


def draw_case(data, family, dedup):
    twin = data.draw(FAMILIES[family])
    if dedup == "context" and twin.window_width == 1:
        twin = replace(twin, context_width=2)
    return twin, repeated(data, data.draw(cases(twin, weighted=False)))


@pytest.mark.parametrize("dedup", RULES)
@examples(80)
@given(st.data(), st.sampled_from(sorted(FAMILIES)), st.sampled_from([1, 2, 3, 255, None]))
def test_core_is_the_twin(dedup, data, family, most):
    twin, case = draw_case(data, family, dedup)
    found = rs.score_documents(
        case.documents,
        public_of(twin),
        dedup=dedup,
        prompts=case.prompts,
        max_sharing=most,
        **options_of(twin, case),
    )
    rules = pipeline.Rules(dedup, "one", case.filter, case.start, case.prompt_role)
    tallies = pipeline.per_document(case.documents, twin, rules, case.prompts, most)
    for name in COUNTS:
        expected = [getattr(tally, f"n_{name}") for tally in tallies]
        assert getattr(found, f"n_{name}").tolist() == expected, name
    assert found.copy_of.tolist() == [tally.copy_of for tally in tallies]
    sums = [np.mean(t.score_sum) if twin.kind == "depths" else t.score_sum for t in tallies]
    assert found.statistic.tolist() == pytest.approx(sums, rel=1e-12, abs=1e-15)
    parts = ("excluded", "filtered", "duplicates", "keyless", "shared", "scored")
    total = sum(getattr(found, f"n_{name}") for name in parts)
    assert total.tolist() == found.n_windows.tolist()


@examples(80)
@given(data=st.data(), family=st.sampled_from(sorted(FAMILIES)), most=st.integers(1, 3))
def test_batches_are_the_whole(data, family, most, tmp_path_factory):
    """In any batches, with batches taken back, and with the table saved and loaded between."""
    twin, case = draw_case(data, family, "unit")
    scheme, options = public_of(twin), options_of(twin, case)
    options |= {"max_contexts": None, "max_sharing": most}

    def batch(first, last, sharing):
        prompts = None if case.prompts is None else case.prompts[first:last]
        documents = case.documents[first:last]
        return score_batch(
            documents, scheme, dedup="unit", prompts=prompts, sharing=sharing, **options
        )

    whole = batch(0, len(case.documents), _core.Sharing(most))
    sharing, at, parts = _core.Sharing(most), 0, []
    while at < len(case.documents):
        end = data.draw(st.integers(at + 1, len(case.documents)))
        what = data.draw(st.sampled_from(["once", "again", "saved"]))
        if what == "again":
            batch(at, data.draw(st.integers(at, len(case.documents))), sharing)
            sharing.undo()
        elif what == "saved":
            path = tmp_path_factory.getbasetemp() / "sharing"
            sharing.save(path)
            sharing = _core.Sharing.load(path)
        parts.append(batch(at, end, sharing))
        assert sharing.n_documents == end
        at = end
    for name in ("n_shared", "n_common", "n_scored", "copy_of", "statistic"):
        together = [x for part in parts for x in getattr(part, name).tolist()]
        assert together == getattr(whole, name).tolist(), name


def test_a_document_has_one_statistic_whatever_stands_beside_it():
    """Sums over depths are rounded in one order: a product of matrices would go by their shapes."""
    rng = np.random.default_rng(0)
    documents = [rng.integers(0, 1000, n).tolist() for n in rng.integers(20, 300, 60)]
    for depth in (5, 9, 30):
        keys = range(1, depth + 1)
        for method in ("mean", "weighted_mean"):
            scheme = rs.SynthIDDeepMind(vocab_size=1000, keys=keys, method=method)
            whole = rs.score_documents(documents, scheme, max_sharing=None).statistic
            alone = [
                rs.score_documents(documents[i : i + k], scheme, max_sharing=None).statistic
                for k in (1, 2, 3)
                for i in range(0, 60, k)
            ]
            assert np.concatenate(alone).tolist() == [*whole, *whole, *whole]
