"""radscore."""
