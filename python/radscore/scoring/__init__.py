"""Scoring of token ids: `Scorer` for what is one test, `score_documents` for each on its own."""

from radscore.scoring.evidence import Rules
from radscore.scoring.per_document import score_documents, score_positions
from radscore.scoring.scorer import Scorer

__all__ = ["Rules", "Scorer", "score_documents", "score_positions"]
