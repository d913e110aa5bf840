"""``radscore schemes``."""

import json
import tomllib

import pytest
from radscore.schemes import SCHEMES


def test_the_list(cli):
    done = cli("schemes")
    assert done.code == 0
    assert [line.split()[0] for line in done.out.splitlines()] == list(SCHEMES)
    found = cli("schemes", "--json").json
    assert found == {name: scheme.description for name, scheme in SCHEMES.items()}


@pytest.mark.parametrize("name", SCHEMES)
def test_the_example_of_every_scheme_scores(cli, name, tmp_path):
    shown = cli("schemes", name)
    assert shown.code == 0
    assert shown.out.startswith(f"{name}: ")
    example = cli("schemes", name, "--toml").out
    assert shown.out.endswith(example)
    assert tomllib.loads(example) == {"scheme": name, "vocab_size": 32_000}
    found = cli("schemes", name, "--json").json
    assert found["toml"] == example
    assert not set(found["secrets"]) & set(found["parameters"])
    # The defaults in the comments are those of the scheme: with them the result is the same.
    (tmp_path / "x.toml").write_text(example)
    lines = example.splitlines()
    assert tomllib.loads("\n".join(line.removeprefix("#") for line in lines))
    spelled = [line if "# default: none" in line else line.removeprefix("# ") for line in lines]
    (tmp_path / "y.toml").write_text("\n".join(spelled))
    (tmp_path / "x.key").write_text(SCHEMES[name].key_files[0][0])
    (tmp_path / "x.jsonl").write_text(json.dumps({"tokens": list(range(3, 300))}) + "\n")
    options = ("--key-file", "x.key", "--json")
    one, other = (cli("score", "x.jsonl", "--scheme", f, *options) for f in ("x.toml", "y.toml"))
    assert one.code == 0, one.err
    assert one.json == other.json


@pytest.mark.parametrize("name", SCHEMES)
def test_the_key_files_that_are_shown_are_read(cli, name, tmp_path):
    ways = cli("schemes", name, "--json").json["key_files"]
    (tmp_path / "x.jsonl").write_text(json.dumps({"tokens": list(range(3, 300))}) + "\n")
    for i, text in enumerate(ways):
        hash_key = i == 2 and name in ("kgw", "gumbel_max")
        seeding = 'seeding = "additive"\n' if hash_key else ""
        (tmp_path / "x.toml").write_text(f'scheme = "{name}"\nvocab_size = 1000\n{seeding}')
        (tmp_path / "x.key").write_text(text)
        done = cli("score", "x.jsonl", "--scheme", "x.toml", "--key-file", "x.key")
        assert done.code == 0, done.err
        assert all(line in cli("schemes", name).out for line in text.splitlines())


def test_an_unknown_scheme(fails):
    fails("schemes", "nonsense", code=2, match="one of kgw, gumbel_max")
