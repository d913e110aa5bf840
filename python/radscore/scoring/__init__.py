"""Scoring of token ids: `Scorer` for what is one test, `score_documents` for each on its own.

`MatchedScorer` is the `Scorer` of what a watermark would have done to a reference's predictions.
"""

from radscore.scoring.evidence import Rules
from radscore.scoring.matched import MatchedScorer
from radscore.scoring.per_document import score_documents, score_positions
from radscore.scoring.scorer import Scorer

__all__ = ["MatchedScorer", "Rules", "Scorer", "score_documents", "score_positions"]
