"""Asks a model of what kind an instruction is: few-shot, by the likelihoods of Yes and No. For where no encoder is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from refine_af.records import SeedTask

Kind = Literal["needs input", "classification"]
YES, NO = " Yes", " No"
_QUESTIONS: dict[Kind, tuple[str, str]] = {
    "classification": ("Is the task answered with one of a few fixed labels?", "Labels"),
    "needs input": ("Does the task need a text or data that is given with it?", "Needs input"),
}


def is_of_kind(kind: Kind, task: SeedTask) -> bool:
    """What people's tasks say of themselves."""
    return task.is_classification if kind == "classification" else bool(task.input)


def kind_prompt(kind: Kind, demonstrations: Sequence[SeedTask], text: str) -> str:
    """Continued by :data:`YES` or :data:`NO`."""
    question, mark = _QUESTIONS[kind]
    shown = "".join(f"Task: {d.instruction}\n{mark}:{YES if is_of_kind(kind, d) else NO}\n\n" for d in demonstrations)
    return f"{question}\n\n{shown}Task: {text}\n{mark}:"


def best_threshold(scores: Sequence[float], labels: Sequence[bool], share: float = 0.5) -> float:
    """The score above which "yes" is right most often, where a ``share`` in [0, 1] of tasks is of the kind.

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
