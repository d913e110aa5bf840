"""Null calibration: suspects that know nothing of the key, under every scheme and route.

`python -m tools.calibration` runs all of it, and writes docs/calibration.md and the summary in
docs/validity.md. It needs no data: texts and suspects are made up (`world`, `models`).
tests/calibration/test_matrix.py runs a small part.
"""
