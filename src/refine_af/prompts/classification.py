"""Asks a model whether an instruction is classification: few-shot, by the likelihoods of Yes and No."""

from __future__ import annotations

from collections.abc import Sequence

from refine_af.records import SeedTask

QUESTION = "Is the task answered with one of a few fixed labels?"
YES, NO = " Yes", " No"


def classification_prompt(demonstrations: Sequence[SeedTask], text: str) -> str:
    """Continued by :data:`YES` or :data:`NO`."""
    shown = "".join(f"Task: {d.instruction}\nLabels:{YES if d.is_classification else NO}\n\n" for d in demonstrations)
    return f"{QUESTION}\n\n{shown}Task: {text}\nLabels:"


def best_threshold(scores: Sequence[float], labels: Sequence[bool], share: float = 0.5) -> float:
    """The score above which "classification" is right most often, where a ``share`` in [0, 1] of tasks is.

    A small model's preference for Yes or No is mostly a habit; labelled seeds tell where its scale has its middle.
    Infinite where the labels are all the same: then every task is taken to be of that kind.
    """
    positives, negatives = sum(labels), len(labels) - sum(labels)
    if not positives or not negatives:
        return float("-inf") if positives else float("inf")
    ordered = sorted(set(scores))
    middles = [(a + b) / 2 for a, b in zip(ordered, ordered[1:])]  # noqa: B905 -- neighbours

    def accuracy(threshold: float) -> float:
        hits = sum(s > threshold for s, label in zip(scores, labels, strict=True) if label)
        passes = sum(s <= threshold for s, label in zip(scores, labels, strict=True) if not label)
        return share * hits / positives + (1 - share) * passes / negatives

    return max([*middles, float("inf"), float("-inf")], key=accuracy)
