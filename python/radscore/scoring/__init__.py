"""Scoring: from documents to results, and what the results are good for."""
