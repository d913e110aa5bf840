"""No file of the project has more than 600 lines, generated tables excepted."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("python", "rust", "tests", "tools", "benches")
GENERATED = {"rust/tokenize/src/unicode_data.rs"}
MOST = 600


def test_files_are_short():
    sources = [
        path
        for folder in FOLDERS
        for suffix in ("py", "pyi", "rs")
        for path in (ROOT / folder).rglob(f"*.{suffix}")
    ]
    assert len(sources) > 300
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in sources}
    assert set(lengths) >= GENERATED
    too_long = {name: n for name, n in lengths.items() if n > MOST and name not in GENERATED}
    assert not too_long
