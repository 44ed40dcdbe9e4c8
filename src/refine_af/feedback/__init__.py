"""Automated feedback: scorers, and the rewards that are made of them."""

from refine_af.feedback.base import Example, Feedback, Judgement, Scorer

__all__ = ["Example", "Feedback", "Judgement", "Scorer"]
