"""What somebody might do to a bundle to change its verdict: `verify` names each."""

import json

import pytest
import radscore as rs
from radscore.canonical import canonical, hash_of
from radscore.evidence.audit import Audit
from radscore.evidence.verify import verify

from .conftest import KEY


def wrong(folder):
    found = verify(folder, rs.Key.from_file(KEY))
    assert found.wrong
    return " | ".join(found.wrong)


def lines_of(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_bytes().splitlines()]


def forge(folder, entries):
    """Writes a log whose chain is whole again, as somebody does who knows how it is made."""
    head, lines = "0" * 64, []
    for number, entry in enumerate(entries, start=1):
        entry |= {"previous": head, "sequence": number}
        head = hash_of(entry)
        lines.append(canonical(entry) + b"\n")
    (folder / "log.jsonl").write_bytes(b"".join(lines))


def test_a_log_line_that_is_removed(copied):
    folder = copied("plain")
    lines = (folder / "log.jsonl").read_bytes().splitlines(keepends=True)
    for i in range(len(lines) - 1):
        (folder / "log.jsonl").write_bytes(b"".join(lines[:i] + lines[i + 1 :]))
        assert "line" in wrong(folder)


def test_the_last_line_removed_shows_against_its_known_hash(copied):
    folder = copied("plain")
    entries = lines_of(folder)
    lines = (folder / "log.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "log.jsonl").write_bytes(b"".join(lines[:-1]))
    found = verify(folder, rs.Key.from_file(KEY), head=hash_of(entries[-1]))
    assert "the log ends with the line whose hash is known" in found.wrong[0]


def test_a_number_in_the_log_that_is_changed(copied):
    folder = copied("plain")
    entries = lines_of(folder)
    (scored,) = [one for one in entries if one["event"] == "scored" and one["look"] == 2]
    scored["result"]["log10_pvalue"] = -9.0
    forge(folder, entries)
    assert "look 2: every number comes out the same" in wrong(folder)


@pytest.mark.parametrize("name", ["plain", "residual"])
def test_an_answer_that_is_changed(copied, name):
    folder = copied(name)
    path = folder / "answers.jsonl"
    path.write_bytes(path.read_bytes().replace(b"the", b"teh", 1))
    assert "the answers are those in the log" in wrong(folder)


def test_an_answer_that_is_changed_with_its_hash(copied):
    folder = copied("plain")
    path = folder / "answers.jsonl"
    data = path.read_bytes()
    at = data.index(b'"text": "') + 9
    data = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
    path.write_bytes(data)
    import hashlib

    entries = lines_of(folder)
    for one in entries:
        if one["event"] == "scored":
            part = data[: one["answers"]["bytes"]]
            one["answers"]["sha256"] = hashlib.sha256(part).hexdigest()
    forge(folder, entries)
    # the decoys' seed comes from the answers' hash
    assert "every number comes out the same" in wrong(folder)


def test_a_subset_that_is_chosen(copied):
    folder = copied("plain")
    path = folder / "prompts.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    lines[0], lines[1] = lines[1], lines[0]
    path.write_text("".join(lines))
    entries = lines_of(folder)
    (drawn,) = [one for one in entries if one["event"] == "drawn"]
    drawn["sha256"] = hash_of([json.loads(line)["prompt"] for line in lines])
    forge(folder, entries)
    assert "the subset is what the seed draws from the planned pool" in wrong(folder)


def test_other_randomness_afterwards(copied):
    folder = copied("plain")
    entries = lines_of(folder)
    (beacon,) = [one for one in entries if one["event"] == "beacon"]
    beacon["value"] = "00" * 16
    forge(folder, entries)
    assert "the subset is what the seed draws" in wrong(folder)


def test_randomness_after_the_draw(copied):
    folder = copied("plain")
    entries = lines_of(folder)
    (i,) = [i for i, one in enumerate(entries) if one["event"] == "beacon"]
    entries.insert(5, entries.pop(i))
    forge(folder, entries)
    assert "in this order" in wrong(folder)


def test_another_plan_afterwards(copied):
    folder = copied("plain")
    plan = json.loads((folder / "plan.json").read_bytes())
    plan["alpha"], plan["test"]["levels"] = 0.4, [0.2, 0.2]
    (folder / "plan.json").write_bytes(canonical(plan) + b"\n")
    assert "the log is that of this plan" in wrong(folder)


def test_a_key_chosen_afterwards(copied):
    folder = copied("plain")
    found = verify(folder, "0f" * 16)
    assert "not so: scheme and key are those that were committed to" in found.wrong


def test_further_questions_outside_of_the_plan(copied):
    folder = copied("plain")
    path = folder / "answers.jsonl"
    lines = path.read_text().splitlines()
    more = json.loads(lines[-1]) | {"prompt": "Something else?", "prompt_id": "0" * 16}
    path.write_text("\n".join([*lines, json.dumps(more)]) + "\n")
    said = wrong(folder)
    assert "something was asked outside of the plan" in said
    assert "only prompts of the subset were asked" in said


def test_a_look_that_is_left_out(copied):
    folder = copied("plain")
    entries = [one for one in lines_of(folder) if one.get("look") != 1]
    forge(folder, entries)
    assert "the looks and levels are the planned ones" in wrong(folder)


def test_a_reference_that_is_changed(copied):
    folder = copied("residual")
    path = folder / "reference-1.npz"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    assert "reference-1.npz" in wrong(folder)


def test_a_second_audit_with_the_same_folder_is_refused(copied):
    folder = copied("plain")
    before = (folder / "log.jsonl").read_bytes()
    again = Audit(folder).run(rs.Key.from_file(KEY))
    assert again is not None
    assert (folder / "log.jsonl").read_bytes() == before
