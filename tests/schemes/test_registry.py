"""Schemes of other packages, found by an entry point and at home everywhere; the registry."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from fractions import Fraction
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import radscore as rs
import scipy.stats
from radscore.errors import ArgumentError, SchemeError
from radscore.schemes import SCHEMES, Keyed, from_dict, from_toml, from_vllm_config, register_scheme
from radscore.schemes.registry import BUILT_IN

from tests.twin import pipeline
from tests.twin.schemes import Gumbel, Scheme, Window
from tests.twin.schemes.families import FAMILIES

GOLDEN = Path(__file__).parents[1] / "golden"
VOCAB = 40
KEY = 2**63 + 12345
ENTRIES = {
    "toy": "toy_marks:Toy",
    "toy_sums": "toy_marks:ToySums",
    "toy_gumbel": "toy_marks:ToyGumbel",
    "toy_depths": "toy_marks:ToyDepths",
}
MASK = 2**64 - 1
RUN = "import sys; from radscore.cli import main; sys.exit(main())"


def install(folder, entries, name="toy-marks", version="1.2"):
    """Makes `folder` a site of one distribution that has these entry points."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = [f"{scheme} = {value}" for scheme, value in entries.items()]
    (info / "entry_points.txt").write_text("\n".join(["[radscore.schemes]", *lines]) + "\n")
    return folder


@pytest.fixture
def site(tmp_path, monkeypatch):
    """The package with the toys, on the path of this process for one test."""
    folder = install(tmp_path / "site", ENTRIES)
    shutil.copy(Path(__file__).with_name("toy_marks.py"), folder / "toy_marks.py")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(SCHEMES, "_known", {scheme.name: scheme for scheme in BUILT_IN})
    monkeypatch.delitem(sys.modules, "toy_marks", raising=False)
    yield folder
    sys.modules.pop("toy_marks", None)


def toy(name="toy", **parameters):
    return from_dict({"scheme": name, "vocab_size": VOCAB, **parameters}, key=KEY)


# The same schemes with Python's integers ------------------------------------------------------


def mixed(x):
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ x >> 27) * 0x94D049BB133111EB & MASK
    return x ^ x >> 31


def hashed(window):
    h = KEY
    for token in window:
        h = mixed((h + token % 2**32 + 1) & MASK)
    return h


@dataclass(frozen=True, kw_only=True)
class ToyTwin(Scheme):
    gamma: float = 0.25

    @property
    def kind(self):
        return "green"

    def score(self, window: Window):
        return int(hashed(window) < int(self.gamma * 2**64))


@dataclass(frozen=True, kw_only=True)
class SumsTwin(ToyTwin):
    def score(self, window: Window):
        return super().score(self.unit(window))

    def unit(self, window: Window):
        return sum(window[:-1]), window[-1]

    def context_seed(self, window: Window):
        return sum(window[:-1])

    def keyless(self, window: Window):
        return sum(window[:-1]) == 0


@dataclass(frozen=True, kw_only=True)
class GumbelTwin(Gumbel):
    padding = -1
    reaches_prompt = False

    def uniform(self, window: Window):
        return (hashed(window) >> 11) * 2.0**-53


@dataclass(frozen=True, kw_only=True)
class DepthsTwin(Scheme):
    depth: int = field(default=4)

    @property
    def kind(self):
        return "depths"

    @property
    def share(self):
        return Fraction(1, 2)

    def score(self, window: Window):
        return tuple(hashed(window) >> d & 1 for d in range(self.depth))


TWINS = {
    "toy": ToyTwin(vocab_size=VOCAB, context_width=2),
    "toy_sums": SumsTwin(vocab_size=VOCAB, context_width=2),
    "toy_gumbel": GumbelTwin(vocab_size=VOCAB, context_width=2),
    "toy_depths": DepthsTwin(vocab_size=VOCAB, context_width=2),
}


def texts(n=30, length=60, seed=0):
    """Documents of few tokens, one of them twice, and a prompt for each."""
    rng = np.random.default_rng(seed)
    documents = [(rng.zipf(1.4, length) % VOCAB).tolist() for _ in range(n)]
    return [*documents, documents[3]], [document[5:15] for document in documents] + [[]]


# From outside, everywhere ---------------------------------------------------------------------


@pytest.mark.usefixtures("site")
def test_scores_are_those_of_numpy():
    scheme = toy(gamma=0.3)
    documents, _ = texts()
    windows = np.unique(
        np.concatenate([np.lib.stride_tricks.sliding_window_view(d, 3) for d in documents]), axis=0
    )
    with np.errstate(over="ignore"):
        hashes = np.full(len(windows), KEY, dtype=np.uint64)
        for column in windows.T.astype(np.uint64):
            x = hashes + column + np.uint64(1)
            x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            hashes = x ^ (x >> np.uint64(31))
    green = hashes < np.uint64(int(0.3 * 2**64))
    assert scheme.scores(windows).tolist() == green.tolist()
    result = rs.score(documents, scheme)
    assert (result.n_scored, result.n_green) == (len(windows), green.sum())
    binomial = scipy.stats.binom(len(windows), float(scheme.share))
    assert result.pvalue == pytest.approx(binomial.sf(green.sum() - 1), rel=1e-9)
    assert (result.scheme, result.fingerprint) == ("toy", scheme.fingerprint)


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("dedup", ["unit", "window", "context", "none"])
@pytest.mark.parametrize("name", TWINS)
def test_a_scorer_does_with_it_what_the_rules_say(name, dedup, threads):
    scheme, twin = toy(name), TWINS[name]
    documents, prompts = texts()
    expected = pipeline.Scorer(twin, pipeline.Rules(dedup))
    expected.add(documents, prompts)
    scorer = rs.Scorer(scheme, dedup=dedup, threads=threads)
    scorer.add(documents, prompts)
    found, tally = scorer.tally(), expected.tally()
    for counted in ("n_windows", "n_excluded", "n_duplicates", "n_keyless", "n_scored"):
        assert getattr(found, counted) == getattr(tally, counted), counted
    sums = {"green": found.n_green, "gumbel": found.score_sum, "depths": found.depth_counts}
    total = list(tally.score_sum) if twin.kind == "depths" else tally.score_sum
    assert sums[twin.kind] == (pytest.approx(total, rel=1e-12) if twin.kind == "gumbel" else total)


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize("name", TWINS)
def test_documents_on_their_own_weights_and_files(name, tmp_path):
    scheme, twin = toy(name), TWINS[name]
    documents, prompts = texts()
    found = rs.score_documents(documents, scheme, prompts=prompts)
    tallies = pipeline.per_document(documents, twin, pipeline.Rules(), prompts)
    for column in ("n_excluded", "n_keyless", "n_shared", "n_scored"):
        assert getattr(found, column).tolist() == [getattr(tally, column) for tally in tallies]
    sums = [np.mean(t.score_sum) for t in tallies]
    assert found.statistic.tolist() == pytest.approx(sums, rel=1e-12)
    positions = rs.score_positions(documents[:1], scheme)
    assert positions.scores[-1] == np.mean(twin.score(tuple(documents[0][-3:])))
    plain = rs.score(documents, scheme)
    corpus = tmp_path / "x.jsonl"
    corpus.write_text("".join(json.dumps({"tokens": d}) + "\n" for d in documents))
    spilled = rs.score(rs.open_corpus(corpus), scheme, memory="64MiB", tmp=tmp_path)
    assert (spilled.statistic, spilled.n_scored) == (plain.statistic, plain.n_scored)
    scorer = rs.Scorer(scheme)
    scorer.add(documents, weights=np.ones(sum(map(len, documents))))
    expected = plain.statistic - plain.n_scored * scheme.null_law.mean
    assert scorer.result().statistic == pytest.approx(expected, rel=1e-9)
    scorer.save(tmp_path / "state")
    assert rs.Scorer.load(tmp_path / "state", scheme).result() == scorer.result()


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize("name", TWINS)
def test_pvalues_are_uniform_over_keys(name):
    """Kolmogorov and Smirnov's test of 400 fixed keys on one text."""
    scheme = toy(name, context_width=1)
    schemes = [scheme, *scheme.decoys(400, seed=1)]
    scorer = rs.Scorer(schemes)
    scorer.add(np.random.default_rng(5).integers(0, VOCAB, 6000))
    pvalues = [result.pvalue for result in scorer.results()[1:]]
    assert scipy.stats.kstest(pvalues, "uniform").pvalue > 0.01
    assert scorer.decoy_test().pvalue > 0.001


@pytest.mark.usefixtures("site")
def test_toml_files_and_the_registry():
    assert list(SCHEMES)[-4:] == sorted(ENTRIES)
    assert "toy" in SCHEMES
    assert "toy_marks" not in sys.modules  # nothing is imported before it is asked for
    path = Path("toy.toml").absolute()
    scheme = toy()
    assert type(scheme) is import_module("toy_marks").Toy is SCHEMES["toy"]
    assert from_dict(scheme.to_dict(), key=KEY) == scheme
    assert str(KEY) not in f"{scheme!r} {scheme.core!r} {scheme.to_dict()} {scheme.fingerprint}"
    with pytest.raises(SchemeError, match="scheme 'toy' has no parameter 'delta'"):
        toy(delta=3)
    with pytest.raises(SchemeError, match=r"toy\.toml: No such file"):
        from_toml(path)
    config = {"algorithm": "toy", "key": 5}
    assert from_vllm_config(config, VOCAB) == SCHEMES["toy"](key=5, vocab_size=VOCAB)
    with pytest.raises(SchemeError, match="must be gumbel or dual_key_gumbel or sbw or toy here"):
        from_vllm_config({"algorithm": "other", "key": 5}, VOCAB)


def command(site, *arguments):
    """The command line in a process of its own, which has the toys on its path."""
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, "-c", RUN, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        cwd=site,
    )


def test_the_command_line(site):
    listed = command(site, "schemes")
    line = next(line for line in listed.stdout.splitlines() if line.split()[0] == "toy")
    assert line.split(maxsplit=1)[1] == "a toy green list of another package"
    shown = command(site, "schemes", "toy")
    assert "Note: A toy: use it in tests only." in shown.stdout
    example = command(site, "schemes", "toy", "--toml").stdout
    assert example.startswith('scheme = "toy"\nvocab_size = 32000\n# context_width = 2\n')
    documents, _ = texts()
    (site / "x.jsonl").write_text("".join(json.dumps({"tokens": d}) + "\n" for d in documents))
    (site / "toy.toml").write_text(f'scheme = "toy"\nvocab_size = {VOCAB}\n')
    (site / "toy.key").write_text(f"{KEY}\n")
    score = ("score", "x.jsonl", "--scheme", "toy.toml", "--key-file", "toy.key", "--json")
    expected = rs.score(documents, from_toml(site / "toy.toml", key=KEY))
    for more in ((), ("--memory", "64MiB", "--tmp", ".")):
        done = command(site, *score, *more)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert (found["n_scored"], found["n_green"]) == (expected.n_scored, expected.n_green)
        assert str(KEY) not in done.stdout + done.stderr


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize("name", TWINS)
def test_its_mark_can_be_written(name):
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from radscore.models.processors import logits_processor

    scheme = toy(name)
    processor = logits_processor(scheme, seed=7, delta=6.0 if name in ("toy", "toy_sums") else None)
    ids = torch.tensor([[1, 2, 3]])
    for step in range(120):
        scores = torch.from_numpy(np.random.default_rng(step).normal(size=(1, VOCAB)))
        chosen = processor(ids, scores).argmax(-1, keepdim=True)
        ids = torch.cat([ids, chosen], dim=1)
    assert rs.score(ids[:, 3:], scheme).log10_pvalue < -6
    assert rs.score(ids[:, 3:], scheme.decoys(1)[0]).log10_pvalue > -3


@pytest.mark.usefixtures("site")
def test_a_scheme_without_a_sampling_rule_can_only_be_read():
    pytest.importorskip("transformers")
    from radscore.models.processors import logits_processor

    class Silent(SCHEMES["toy"]):
        sampling = None

    with pytest.raises(ArgumentError, match="scheme 'toy' has no sampling rule"):
        logits_processor(Silent(key=1, vocab_size=VOCAB))


# Packages that are broken -----------------------------------------------------------------------

BROKEN = {
    "no module": ({"toy": "toys_that_are_not:Toy"}, "", "cannot be loaded: ModuleNotFoundError"),
    "raises": ({"toy": "bad_marks:Toy"}, "1 / 0", "cannot be loaded: ZeroDivisionError: division"),
    "no class": ({"toy": "bad_marks:Toy"}, "", "cannot be loaded: AttributeError"),
    "no scheme": ({"toy": "bad_marks:Toy"}, "Toy = dict", "whose bad_marks:Toy is no subclass of"),
    "abstract": (
        {"toy": "bad_marks:Toy"},
        "from radscore.schemes import Scheme as Toy",
        "does not define _build, _check, _decoy, null_law",
    ),
    "other name": (
        {"toy": "bad_marks:Toy"},
        "from radscore.schemes import Keyed as Toy",
        "whose bad_marks:Toy is named 'keyed'",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_package_is_named(tmp_path, monkeypatch, name):
    entries, source, message = BROKEN[name]
    site = install(tmp_path / "site", entries, "bad-marks", "3.4")
    (site / "bad_marks.py").write_text(source)
    monkeypatch.syspath_prepend(site)
    monkeypatch.delitem(sys.modules, "bad_marks", raising=False)
    begin = "scheme 'toy' comes from the distribution bad-marks 3.4, "
    with pytest.raises(SchemeError, match=f"^{begin}.*{message}") as caught:
        from_dict({"scheme": "toy", "vocab_size": VOCAB}, key=KEY)
    assert "\n" not in str(caught.value)
    sys.modules.pop("bad_marks", None)
    # Others are found, listed and read all the same.
    assert from_dict({"scheme": "vllm_gumbel", "vocab_size": VOCAB}, key=KEY).name == "vllm_gumbel"
    assert from_vllm_config({"key": 5}, VOCAB).name == "vllm_gumbel"
    listed = command(site, "schemes")
    assert listed.returncode == 0, listed.stderr
    assert begin in next(line for line in listed.stdout.splitlines() if line.startswith("toy "))
    assert len(listed.stdout.splitlines()) == len(BUILT_IN) + 1
    (site / "toy.toml").write_text(f'scheme = "toy"\nvocab_size = {VOCAB}\n')
    (site / "toy.key").write_text(f"{KEY}\n")
    done = command(site, "score", "x.jsonl", "--scheme", "toy.toml", "--key-file", "toy.key")
    assert done.returncode == 2
    assert done.stderr.startswith("radscore: error: ")
    assert begin in done.stderr


def test_a_name_that_is_taken_is_left_out(tmp_path, monkeypatch):
    for entries, name in (({"toy": "other:Toy"}, "z-marks"), (ENTRIES, "toy-marks")):
        monkeypatch.syspath_prepend(install(tmp_path / name, {**entries, "keyed": "x:X"}, name))
    with pytest.warns(RuntimeWarning, match="is left out: ") as caught:
        names = list(SCHEMES)
    assert sorted(names) == sorted([*(scheme.name for scheme in BUILT_IN), *ENTRIES])
    assert SCHEMES["keyed"] is Keyed
    assert {str(warning.message) for warning in caught} == {
        f"the scheme {scheme!r} of the distribution {loser} 1.2 is left out: {winner} has one of "
        "that name"
        for scheme, loser, winner in (
            ("keyed", "toy-marks", "radscore"),
            ("keyed", "z-marks", "radscore"),
            ("toy", "z-marks", "the distribution toy-marks 1.2"),
        )
    }


@pytest.mark.usefixtures("site")
def test_registering_by_hand():
    kind = import_module("toy_marks").Toy
    assert register_scheme(kind) is kind
    assert register_scheme(kind) is kind
    assert SCHEMES["toy"] is kind
    other = type("Other", (kind,), {"name": "keyed"})
    with pytest.raises(SchemeError, match=r"the name 'keyed' is taken by radscore\.schemes\.keyed"):
        register_scheme(other)
    for wrong, why in ((dict, "is no subclass"), (rs.Scheme, "does not define _build")):
        with pytest.raises(SchemeError, match=why):
            register_scheme(wrong)


# radscore's own -----------------------------------------------------------------------------------


def test_core_and_package_have_the_same_schemes():
    assert rs._core.Scheme.names() == [scheme.name for scheme in BUILT_IN]
    assert list(SCHEMES)[: len(BUILT_IN)] == [scheme.name for scheme in BUILT_IN]


@pytest.mark.parametrize("scheme", BUILT_IN, ids=lambda scheme: scheme.name)
def test_every_scheme_has_a_twin_and_golden_vectors(scheme):
    families = [family for family in FAMILIES.values() if family.scheme == scheme.name]
    assert families, f"no twin is registered for {scheme.name}"
    tests = (GOLDEN.parent / "schemes" / "test_golden.py").read_text()
    for family in families:
        assert type(family.public(family.examples[0])) is scheme
        pinned = [name for name in family.golden if f'golden("{name}")' in tests]
        assert pinned, f"no golden vectors of {scheme.name} are tested"
        for name in family.golden:
            assert json.loads((GOLDEN / f"{name}.json").read_text())["source"]
