"""The twin against vectors that the package sbw made (tests/golden says which version)."""

from tests.twin.schemes import SBW


def test_sbw_vectors(golden):
    for case in golden("sbw")["cases"]:
        width = len(case["context"])
        common = {"vocab_size": 2**18, "key": case["key"], "gamma": case["gamma"]}
        lefthash = SBW(context_width=width, prf="additive", **common)
        selfhash = SBW(context_width=width, prf="anchored_minhash", self_salt=True, **common)
        windows = {
            "lefthash": (lefthash, (*case["context"], case["token"])),
            "selfhash": (selfhash, (*case["context"][1:], case["token"])),
        }
        for name, (scheme, window) in windows.items():
            assert len(window) == scheme.window_width
            assert scheme.seed(window) == int(case[name]["seed"])
            assert scheme.word31(window) == case[name]["word31"]
            assert scheme.score(window) == int(case[name]["green"])
