"""Layouts of corpora: one module each."""
