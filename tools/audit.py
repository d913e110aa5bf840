"""An audit from plan to verified bundle: ``make audit``, some minutes on two cores.

Two suspects, trained by `tools.experiments`: one on Alice's watermarked text (a tenth of what it
learned), and a control. Each is audited by reading fresh text, and by answers at two looks, against
a reference that was trained alike on unmarked text. What Bob's expert gets is verified without the
key, then with it; and once more after somebody has changed a number.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import radscore as rs
from radscore.canonical import canonical
from radscore.evidence import read_settings, verify, write_bundle
from radscore.evidence.report import page_of_audit
from radscore.stats.result import power_of_ten
from tokenizers import Tokenizer

from tools.experiments.settings import KEY, MODELS, ROOT, alice

READING = """\
alpha = 0.001
[suspect]
folder = "{suspect}"
[pool]
texts = "texts.jsonl"
field = "tokens"
drawn = 100
[test]
tokenizer = "{models}/tokenizer.json"
reference = "{models}/reference"
decoys = 40
"""
ASKING = """\
alpha = 0.001
[suspect]
folder = "{suspect}"
api = "completions"
[pool]
prompts = "prompts.jsonl"
drawn = 100
[asking]
max_tokens = 64
[test]
tokenizer = "{models}/tokenizer.json"
reference = "{models}/reference"
looks = [50, 100]
decoys = 40
"""
#: Stands for public randomness of the day after the hash was published.
BEACON = "5f0c8a1d9e3b7246c0d1e2f3a4b5c6d7"


def main() -> int:
    """Runs the audits; 0 if each verdict is the truth and each bundle is sound."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "audit")
    out = parser.parse_args().out
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    _pools(out)
    right = True
    for suspect, marked in (("rho-10", True), ("control", False)):
        for kind, settings in (("reading", READING), ("answers", ASKING)):
            text = settings.format(suspect=MODELS / suspect, models=MODELS)
            right &= _audit(out, f"{suspect}-{kind}", text, marked=marked and kind == "reading")
    right &= _changed(out)
    print(f"\nreports and bundles are in {out}")
    return 0 if right else 1


def _pools(out: Path) -> None:
    words = Tokenizer.from_file(str(MODELS / "tokenizer.json"))
    with np.load(MODELS / "texts.npz") as found:
        texts, prompts = found["fresh"], found["prompts"][:400]
    rows: dict[str, list[dict[str, Any]]] = {
        "texts.jsonl": [{"tokens": row.tolist()} for row in texts],
        "prompts.jsonl": [{"prompt": words.decode(row.tolist())} for row in prompts],
    }
    for name, lines in rows.items():
        (out / name).write_text("".join(json.dumps(line) + "\n" for line in lines))


def _audit(out: Path, name: str, settings: str, *, marked: bool) -> bool:
    started = time.monotonic()
    print(f"\n== {name}", flush=True)
    (out / f"{name}.toml").write_text(settings)
    key, scheme = rs.Key.from_file(KEY), alice()
    found = read_settings(out / f"{name}.toml")
    audit = rs.Audit.planned(found, scheme, out / name, base=out)
    audit.commit()
    audit.commit(beacon=BEACON, source="a stand-in for a public beacon")
    print(f"committed to plan {audit.plan.sha256}")
    outcome = audit.run(key)
    assert outcome is not None
    p = power_of_ten(outcome.log10_pvalue or 0.0, 3)
    print(f"{outcome.verdict}: p = {p}, level {outcome.level:g}; {outcome.reason}")
    (audit.folder / "report.html").write_text(page_of_audit(audit))
    bundle = write_bundle(audit, out / f"{name}.zip")
    blind, seeing = verify(bundle, plan_hash=audit.plan.sha256), verify(bundle, key)
    print(f"verified: {len(seeing.holds)} checks hold, {len(seeing.wrong)} do not")
    for one in seeing.wrong:
        print(f"  wrong: {one}")
    print(f"{time.monotonic() - started:.0f} s")
    sound = blind.sound and seeing.sound and seeing.recomputed
    # with so few answers of so small a model nothing is found, which is no error
    return sound and (outcome.verdict == "evidence") == marked


def _changed(out: Path) -> bool:
    """A control whose log says what somebody would like it to say."""
    print("\n== control-reading, with one number changed", flush=True)
    bundle, forged = out / "control-reading.zip", out / "forged.zip"
    with zipfile.ZipFile(bundle) as source, zipfile.ZipFile(forged, "w") as target:
        for one in source.namelist():
            data = source.read(one)
            if one == "log.jsonl":
                lines = [json.loads(line) for line in data.splitlines()]
                for line in lines:
                    if line["event"] == "scored":
                        line["result"]["log10_pvalue"] = -9.0
                data = b"".join(canonical(line) + b"\n" for line in lines)
            target.writestr(one, data)
    found = verify(forged, rs.Key.from_file(KEY))
    for one in found.wrong:
        print(f"  wrong: {one}")
    return not found.sound


if __name__ == "__main__":
    sys.exit(main())
