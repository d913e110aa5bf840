"""Null calibration: suspects that know nothing of the key, under every scheme and route.

`python -m tools.calibration` runs it in full and writes its table into docs/validity.md;
tests/calibration/test_matrix.py runs a small part of it.
"""
