"""Mutated input for everything that radscore reads: `python -m tools.fuzz`."""
