"""Experiments on small models trained from scratch: `python -m tools.experiments`."""
