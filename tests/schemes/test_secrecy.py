"""Where keys are not: in a scheme's dictionary, in printouts, in pickles that are to have none."""

import copy
import dataclasses
import io
import json
import pickle
import traceback
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
from radscore.errors import SchemeError
from radscore.schemes import (
    KGW,
    SBW,
    Key,
    Keyed,
    SGLangGumbel,
    SynthID,
    with_key,
    without_keys,
)

from .toy_marks import Toy

NUMBER, OTHER, HEX = 8123456789012345, 7234567890123456, "5ec2e70123456789abcdef0011223344"
SCHEMES = [
    (KGW(vocab_size=500, context_width=2, seed=NUMBER, salt_key=OTHER),
     Key({"seed": NUMBER, "salt_key": OTHER})),
    (SynthID(vocab_size=500, context_width=4, keys=[NUMBER, OTHER]), [NUMBER, OTHER]),
    (SBW(vocab_size=500, key=NUMBER), NUMBER),
    (SGLangGumbel(vocab_size=500, key=f"{NUMBER:x}"), NUMBER),
    (Keyed(vocab_size=500, key=HEX), HEX),
    (Toy(vocab_size=500, key=NUMBER), NUMBER),
]  # fmt: skip
each = pytest.mark.parametrize(("scheme", "key"), SCHEMES, ids=lambda one: type(one).__name__)
SPELLINGS = [str(NUMBER), str(OTHER), f"{NUMBER:x}", HEX, repr(bytes.fromhex(HEX))[2:-1]]


def shows(text):
    return any(spelling in text for spelling in SPELLINGS)


@each
def test_no_printout_shows_a_key(scheme, key):
    assert not set(vars(scheme)) & set(scheme.secrets)
    for one in (scheme, scheme.core, dataclasses.replace(scheme, vocab_size=499)):
        texts = [repr(one), str(one), repr(getattr(one, "__dict__", None))]
        assert not any(map(shows, texts))
    assert not shows(repr(dataclasses.asdict(scheme)))
    assert not shows(repr(dataclasses.astuple(scheme)))
    assert not shows(repr(dataclasses.fields(scheme)))
    assert not shows(json.dumps(scheme.to_dict()))
    secrets = [getattr(scheme, name) for name in scheme.secrets]
    assert not shows(f"{secrets} {secrets[0]}")
    try:
        raise ValueError(scheme, secrets)  # noqa: TRY301
    except ValueError as error:
        frames = traceback.TracebackException.from_exception(error, capture_locals=True)
        shown = [
            line for line in frames.format() if "SPELLINGS" not in line and "key =" not in line
        ]
        assert not shows("".join(shown))


@each
def test_secret_numbers_are_numbers(scheme, key):
    for name in scheme.secrets:
        value = getattr(scheme, name)
        if isinstance(value, int):
            assert isinstance(value + 0, int)
            assert copy.deepcopy(value) == value == pickle.loads(pickle.dumps(value)) == int(value)
            assert hash(value) == hash(int(value))
            assert Key(value).fingerprint == Key(int(value)).fingerprint
    assert copy.copy(scheme) == scheme == copy.deepcopy(scheme)
    assert copy.copy(scheme) is not scheme


def holds(data):
    """Whether a pickle holds a key, by what it would call and by its bytes."""
    numbers = (NUMBER, OTHER)
    raw = [n.to_bytes(8, "little").rstrip(b"\0") for n in numbers] + [bytes.fromhex(HEX)]
    return any(one in data for one in [*raw, *(spelling.encode() for spelling in SPELLINGS)])


@each
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_keys_are_left_out_of_pickles(scheme, key, protocol):
    whole = pickle.dumps(scheme, protocol)
    assert pickle.loads(whole) == scheme
    assert holds(whole) or protocol < 3  # which write bytes as text
    with without_keys():
        data = pickle.dumps({"mine": [scheme, Key(key)]}, protocol)
        assert copy.deepcopy(scheme) == scheme  # only pickles
    assert not holds(data)
    with pytest.raises(SchemeError, match=r"made without its key; load it inside `with radscore"):
        pickle.loads(data)
    for wrong in (NUMBER + 1, [1, 2, 3], bytes(16), "xyz"):
        with with_key(wrong), pytest.raises(SchemeError, match=scheme.fingerprint):
            pickle.loads(data)
    with with_key(1, key):
        found = pickle.loads(data)["mine"]
    assert found == [scheme, Key(key)]
    assert found[0].fingerprint == scheme.fingerprint
    windows = [[1] * scheme.window_width]
    assert found[0].scores(windows).tolist() == scheme.scores(windows).tolist()


def test_schemes_of_public_keys_need_none():
    scheme = KGW(vocab_size=500, context_width=1, seeding="additive")
    assert scheme.has_public_key
    with without_keys():
        data = pickle.dumps(scheme)
    assert pickle.loads(data) == scheme


def test_an_old_pickler_and_other_processes_see_the_same():
    scheme = SCHEMES[0][0]
    stream = io.BytesIO()
    pickle._Pickler(stream).dump(scheme)  # the one in Python
    assert pickle._Unpickler(io.BytesIO(stream.getvalue())).load() == scheme
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert pool.submit(_fingerprint, scheme).result(timeout=120) == scheme.fingerprint


def _fingerprint(scheme):
    return scheme.fingerprint


@pytest.fixture
def in_folder(tmp_path, monkeypatch):
    """The environment, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return monkeypatch


PHRASE = "correcthorse7batterystaple"
FILES = [
    f"{PHRASE} = 1", f"{PHRASE}=", f"= {PHRASE}", f"{PHRASE}", f'"{PHRASE}" = "x"',
    f"{PHRASE} = []",
    f"{PHRASE} = {{a = 1}}", f"{PHRASE}.{PHRASE} = 1", f"[{PHRASE}]\nkey = 1", f"key = {PHRASE}",
    f'key = "{PHRASE}"', f"key = '{PHRASE}", f"key = [{PHRASE}", f'key = ["{PHRASE}"]',
    f"key = 1\n{PHRASE} = 1", f"{PHRASE} = 1\n{PHRASE} = 1", f"1 {PHRASE}", f"{PHRASE}\0 = 1",
    f"key = 2026-01-01T{PHRASE}", f"# {PHRASE}", f"key = 1 # {PHRASE}\x01", f"{PHRASE}\x1b[2J = 1",
]  # fmt: skip


@pytest.mark.parametrize("content", FILES)
@pytest.mark.parametrize("name", ["sbw", "keyed", "kgw", "sglang_gumbel", "synthid"])
def test_no_message_shows_what_a_key_file_holds(in_folder, run_command, content, name):
    """Not even in a traceback, nor a key on the wrong side of the =."""
    width = "sampling_table_size = 65536\nsampling_table_seed = 0\n" if name == "synthid" else ""
    Path("s.toml").write_text(f'scheme = "{name}"\nvocab_size = 500\ncontext_width = 4\n{width}')
    Path("x.jsonl").write_text(json.dumps({"input_ids": list(range(40))}) + "\n")
    Path("k").write_text(content)
    in_folder.setenv("MY_KEY", content.replace("\0", ""))
    for key in (["--key-file", "k"], ["--key-env", "MY_KEY"]):
        done = run_command("score", "x.jsonl", "--scheme", "s.toml", *key, "--debug")
        assert done.code in (0, 2)
        assert PHRASE[:8] not in done.out + done.err
        assert PHRASE[-8:] not in done.out + done.err
