"""Evaluation: the metrics of Super-NaturalInstructions, and how sure a difference is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from refine_af.evaluation.metrics import exact_match, rouge_l

__all__ = ["exact_match", "rouge_l"]


def __getattr__(name: str) -> Any:
    # Late, so that comparing scores doesn't pay for what only the metrics need.
    if name in __all__:
        from refine_af.evaluation import metrics

        return getattr(metrics, name)
    raise AttributeError(f"module 'refine_af.evaluation' has no attribute {name!r}")
