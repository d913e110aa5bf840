"""Scheme files and keys that are wrong: a clear error, and never a word of the key."""

import os
import re

import pytest
from radscore.errors import RadscoreError, SchemeError
from radscore.schemes import SCHEMES, Key, from_toml

KEY = "00112233445566778899aabbccddeeff"
GOOD = 'scheme = "keyed"\nvocab_size = 100\ngamma = 0.25\ncontext_width = 2\n'

TOML = {
    "empty": "",
    "broken": "scheme = ",
    "not toml": "{}",
    "binary": b"\x00\xff\xfe",
    "utf-16": GOOD.encode("utf-16"),
    "no scheme": "vocab_size = 100",
    "unknown scheme": 'scheme = "nonsense"\nvocab_size = 100',
    "scheme is a list": 'scheme = ["keyed"]\nvocab_size = 100',
    "scheme is a number": "scheme = 3\nvocab_size = 100",
    "no vocabulary": 'scheme = "keyed"',
    "unknown field": GOOD + "foo = 1",
    "unknown table": GOOD + "[more]\nx = 1",
    "twice": GOOD + "vocab_size = 100",
    **{
        f"vocab_size = {value}": GOOD.replace("vocab_size = 100", f"vocab_size = {value}")
        for value in ("0", "-5", "1", "1048577", "1e6", "100.0", '"100"', "true", "[100]", "9" * 30)
    },
    **{
        f"gamma = {value}": GOOD.replace("gamma = 0.25", f"gamma = {value}")
        for value in ("0", "1", "-0.5", "nan", "inf", '"x"', "true", "[]", "1e-300")
    },
    **{
        f"context_width = {value}": GOOD.replace("context_width = 2", f"context_width = {value}")
        for value in ("0", "65", "-1", "2.5", "true", '"2"', "99999999999999999999")
    },
}


@pytest.mark.parametrize("name", TOML)
def test_wrong_scheme_files(tmp_path, name):
    path = tmp_path / "my-scheme.toml"
    content = TOML[name]
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(RadscoreError) as caught:
        from_toml(path, key=Key(KEY))
    assert "my-scheme.toml" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    assert KEY not in str(caught.value)


def test_scheme_files_that_are_no_files(tmp_path):
    for path in (tmp_path, tmp_path / "none.toml"):
        with pytest.raises(RadscoreError, match=re.escape(path.name)):
            from_toml(path, key=Key(KEY))


def test_the_good_one_is_good(tmp_path):
    (tmp_path / "x.toml").write_text(GOOD)
    assert from_toml(tmp_path / "x.toml", key=Key(KEY)).vocab_size == 100


KEYS = {
    "empty": b"",
    "white": b" \n\t\n",
    "binary": bytes(range(128, 256)),
    "nul": b"\0" * 32,
    "odd": KEY[:-1].encode(),
    "short": KEY[:-2].encode(),
    "long": (KEY + "00").encode(),
    "other letters": KEY.replace("a", "g").encode(),
    "huge": KEY.encode() * 10_000,
    "utf-16": KEY.encode("utf-16"),
    "two": f"{KEY}\n{KEY}".encode(),
    "toml": f'key = "{KEY}'.encode(),
    "other field": f'seed = "{KEY}"'.encode(),
    "json": f'{{"key": "{KEY}"}}'.encode(),
}


@pytest.mark.parametrize("name", KEYS)
def test_wrong_key_files(tmp_path, name):
    (tmp_path / "x.toml").write_text(GOOD)
    path = tmp_path / "my.key"
    path.write_bytes(KEYS[name])
    with pytest.raises(SchemeError) as caught:
        from_toml(tmp_path / "x.toml", key=Key.from_file(path))
    text = f"{caught.value!s}{caught.value!r}{caught.value.__cause__}"
    assert "\n" not in str(caught.value)
    assert KEY[:8] not in text
    assert KEY[-8:] not in text


def test_key_files_that_are_no_files(tmp_path):
    for path in (tmp_path, tmp_path / "none.key"):
        with pytest.raises(SchemeError, match=re.escape(path.name)):
            Key.from_file(path)
    if os.geteuid() != 0:
        (tmp_path / "closed.key").write_text(KEY)
        (tmp_path / "closed.key").chmod(0)
        with pytest.raises(SchemeError, match=r"closed\.key"):
            Key.from_file(tmp_path / "closed.key")


@pytest.mark.parametrize("name", SCHEMES)
def test_every_scheme_refuses_a_file_with_its_name_only(tmp_path, name):
    (tmp_path / "x.toml").write_text(f'scheme = "{name}"\n')
    with pytest.raises(SchemeError, match=r"x\.toml"):
        from_toml(tmp_path / "x.toml", key=Key("12"))
