"""The layouts radscore reads, one module each with a `FORMAT`; registered in `corpus.registry`."""
