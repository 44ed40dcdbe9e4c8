"""Evaluation: the metrics of Super-NaturalInstructions, and how sure a difference is."""

from refine_af.evaluation.metrics import exact_match, rouge_l

__all__ = ["exact_match", "rouge_l"]
