"""A small evaluator, trained on people's pairs against spoilt ones: what the embedded reward is mostly made of."""

from refine_af.feedback.evaluator.scorer import QualityScorer

__all__ = ["QualityScorer"]
