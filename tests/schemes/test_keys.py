"""Keys: what is read, what is refused, what is never shown."""

import traceback

import pytest
from radscore.errors import SchemeError
from radscore.schemes import (
    Key,
    Keyed,
    SGLangGumbel,
    SynthID,
    VLLMGumbel,
    from_dict,
)
from secret_keys import HEX_SECRET, leaks


@pytest.mark.parametrize(
    "text",
    [HEX_SECRET, f"\n  {HEX_SECRET.upper()} \r\n", f"0x{HEX_SECRET}", f"\ufeff{HEX_SECRET}"],
)
def test_key_files(tmp_path, text, monkeypatch):
    path = tmp_path / "alice.key"
    path.write_text(text, encoding="utf-8")
    expected = Keyed(vocab_size=500, key=HEX_SECRET)
    assert Keyed(vocab_size=500, key=Key.from_file(path)) == expected
    monkeypatch.setenv("RADSCORE_KEY", text.removeprefix("\ufeff"))
    assert Keyed(vocab_size=500, key=Key.from_env()) == expected


def test_key_files_of_other_forms(tmp_path):
    path = tmp_path / "key"
    path.write_text("42\n")
    assert VLLMGumbel(vocab_size=500, key=Key.from_file(path)).key == 42
    assert SGLangGumbel(vocab_size=500, key=Key.from_file(path)).key == 0x42
    path.write_text("654, 400,\n836 123")
    assert SynthID(vocab_size=500, keys=Key.from_file(path)).keys == (654, 400, 836, 123)
    path.write_text("seed = 3\nsalt_key = 0x10\n")
    scheme = from_dict({"scheme": "kgw", "vocab_size": 500}, Key.from_file(path))
    assert (scheme.seed, scheme.salt_key) == (3, 16)
    path.write_text('key = "2a"\nkey_b = "2b"')
    scheme = from_dict({"scheme": "sglang_gumbel", "vocab_size": 500}, Key.from_file(path))
    assert (scheme.key, scheme.key_b) == (0x2A, 0x2B)
    path.write_text("keys = [1, -2]")
    scheme = from_dict({"scheme": "synthid", "vocab_size": 500}, Key.from_file(path))
    assert scheme.keys == (1, -2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (f"my {HEX_SECRET}!".encode(), "not a hexadecimal or decimal number"),
        (f"key = {HEX_SECRET}".encode(), "not valid TOML"),
        (f"[table]\nkey = '{HEX_SECRET}'".encode(), "field 1 of the key must be"),
        (b"a = " + b"[" * 30_000, "nested too deeply"),
        (b"key = " + b"9" * 6000, "a number is too long"),
        (b"key = 0x" + b"f" * 6000, "more than 1,000 digits"),
        (b"7, " + b"9" * 6000, "digits; no key is so long"),
        (f"{HEX_SECRET} = []".encode(), "field 1 of the key must be"),
        (HEX_SECRET.encode("utf-16"), "not a text file"),
        (HEX_SECRET.encode() * 5000, "larger than"),
        (b"\x00" * 16, "not a hexadecimal"),
    ],
)
def test_bad_key_files_name_the_file_only(tmp_path, content, message):
    path = tmp_path / "bad.key"
    path.write_bytes(content)
    with pytest.raises(SchemeError, match=message) as caught:
        Key.from_file(path)
    assert "bad.key" in str(caught.value)
    assert not leaks("".join(traceback.format_exception(caught.value)))


@pytest.mark.parametrize("content", ["9" * 6000, "0x" + "f" * 6000, f"{HEX_SECRET} = 3"])
@pytest.mark.parametrize("scheme", ["keyed", "sglang_gumbel", "vllm_gumbel", "kgw", "synthid"])
def test_files_that_hold_no_key_of_a_scheme(tmp_path, content, scheme):
    path = tmp_path / "bad.key"
    path.write_text(content)
    key = Key.from_file(path)
    assert len(key.fingerprint) == 64
    with pytest.raises(SchemeError) as caught:
        from_dict({"scheme": scheme, "vocab_size": 500}, key)
    assert len(str(caught.value)) < 300
    assert not leaks("".join(traceback.format_exception(caught.value)))


def test_missing_keys(tmp_path, monkeypatch):
    with pytest.raises(SchemeError, match=r"none\.key: No such file"):
        Key.from_file(tmp_path / "none.key")
    with pytest.raises(SchemeError, match="directory"):
        Key.from_file(tmp_path)
    monkeypatch.delenv("RADSCORE_KEY", raising=False)
    with pytest.raises(SchemeError, match="no variable RADSCORE_KEY"):
        Key.from_env()
    with pytest.raises(SchemeError, match="even number"):
        Key.from_hex("abc")


def test_keys_show_only_a_fingerprint(tmp_path):
    key = Key(HEX_SECRET)
    shown = f"{key} {key!r} {[key]} {{'key': key}} {key.fingerprint}"
    assert not leaks(shown)
    assert repr(key) == f"Key(fingerprint={key.fingerprint!r})"
    assert key == Key(HEX_SECRET)
    assert key != Key(HEX_SECRET[::-1])
    assert not hasattr(key, "__dict__")


def test_generated_keys_can_be_saved_once(tmp_path):
    key = Key.generate()
    path = tmp_path / "new.key"
    key.save(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert Keyed(vocab_size=9, key=Key.from_file(path)) == Keyed(vocab_size=9, key=key)
    with pytest.raises(SchemeError, match="File exists"):
        key.save(path)
