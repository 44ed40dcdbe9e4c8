"""Two evaluations by how likely they find the same references, task by task: content, margin, end, loss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from refine_af.errors import UsageError
from refine_af.evaluation.significance import Interval, paired_difference

FIGURES = ("content", "margin", "end", "loss")
CANT_SHOW = (
    "Content and margin can't be raised by brevity, and the margin by no style at all; end and loss can. A model may "
    "find references likelier and still answer badly."
)
OTHER_QUESTIONS = "The references' likelihoods are not compared: the two evaluations scored different ones."


@dataclass(frozen=True, slots=True)
class Likelihoods:
    """``questions`` is the same where the same texts were scored; ``tasks``: of each, the figures that it has."""

    questions: str
    tasks: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class LikelihoodDifference:
    """A figure's means over ``tasks`` tasks, in nats, and what the other side has over the control.

    ``interval``: 95 %, bootstrap over tasks. A task is won where its figure is higher, of ``loss`` where it is lower.
    """

    figure: str
    tasks: int
    control: float
    other: float
    difference: float
    interval: Interval
    wins: int
    losses: int


def compare_likelihoods(control: Likelihoods, other: Likelihoods, seed: int = 0) -> tuple[LikelihoodDifference, ...]:
    """Figure by figure, over the tasks that have it. Raises ValueError where other texts were scored."""
    if control.questions != other.questions:
        raise ValueError("the likelihoods are of different texts")
    found = []
    for figure in FIGURES:
        names = sorted(name for name, figures in control.tasks.items() if figure in figures)
        if not names:
            continue
        ours = [control.tasks[name][figure] for name in names]
        theirs = [other.tasks[name][figure] for name in names]
        gains = np.array(theirs) - np.array(ours)
        better = -gains if figure == "loss" else gains
        mean = paired_difference(ours, theirs, seed=seed)
        found.append(
            LikelihoodDifference(
                figure=figure,
                tasks=len(names),
                control=float(np.mean(ours)),
                other=float(np.mean(theirs)),
                difference=mean.mean,
                interval=(mean.low, mean.high),
                wins=int((better > 0).sum()),
                losses=int((better < 0).sum()),
            )
        )
    return tuple(found)


def read_likelihoods(where: str, found: Any) -> Likelihoods | None:
    """What ``scores.json`` holds under ``likelihood``; None where it holds nothing. Raises UsageError for what evaluate
    doesn't write."""
    if found is None:
        return None
    broken = UsageError(f"{where}: no likelihoods as evaluate writes them; evaluate again")
    if not isinstance(found, dict) or not isinstance(found.get("questions"), str):
        raise broken
    tasks = found.get("tasks")
    if not isinstance(tasks, dict) or not tasks:
        raise broken
    read: dict[str, dict[str, float]] = {}
    for name, row in tasks.items():
        values = {figure: row.get(figure) for figure in FIGURES} if isinstance(row, dict) else {}
        if values.get("margin") is None:  # of a task with one reference
            values.pop("margin", None)
        if not {"content", "end", "loss"} <= values.keys() or not all(_is_finite(value) for value in values.values()):
            raise broken
        read[name] = {figure: float(value) for figure, value in values.items() if value is not None}
    return Likelihoods(found["questions"], read)


def _is_finite(value: object) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value)
