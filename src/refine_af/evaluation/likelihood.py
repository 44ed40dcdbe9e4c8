"""How likely a model finds the references that people wrote: what style can't move, apart from what it can.

Nothing is generated. A task's references stand behind each of its prompts, so that what a model gains by ending early
or by a tone of its own can be told from what it gains by attending to what is asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any

import numpy as np
import numpy.typing as npt

from refine_af.engines.base import TokenScores
from refine_af.evaluation.tasks import EvaluationTask
from refine_af.prompts.super_ni import Ruler, source
from refine_af.records import content_id

REFERENCES = 5  # of a task: each stands behind each prompt, so the time grows with the square
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Questions:
    """A task's sources, as an evaluation asks them, and the reference of each; no two references are the same."""

    task: str
    sources: tuple[str, ...]
    references: tuple[str, ...]

    def texts(self) -> Iterator[tuple[str, str]]:
        """Each source with each reference, (k, k) in rows."""
        return ((source, reference) for source in self.sources for reference in self.references)


@dataclass(frozen=True, slots=True)
class Figures:
    """What a model finds of a reference in its place, or of a task's, the mean over its instances, in nats.

    ``content``: log-probability a token of the own reference, without the end token; higher is better. ``end``: of the
    end token behind it. ``loss``: negative log-probability a token, the end token with it; lower is better.
    ``margin``: see :func:`margins`; None of a single reference, which has nothing to be told from.
    """

    content: float
    margin: float | None
    end: float
    loss: float

    @classmethod
    def mean(cls, several: Sequence[Figures]) -> Figures:
        """Of a task's instances."""
        margins = [one.margin for one in several if one.margin is not None]
        return cls(
            fmean(one.content for one in several),
            fmean(margins) if margins else None,
            fmean(one.end for one in several),
            fmean(one.loss for one in several),
        )


def questions_of(
    tasks: Sequence[EvaluationTask], count: int, shots: int, max_source: int, max_target: int, ruler: Ruler
) -> list[Questions]:
    """Of each task the first ``count`` instances whose first references differ and have ``max_target`` tokens at most;
    tasks without one are left out."""
    found = []
    for task in tasks:
        asked: dict[str, str] = {}  # by reference
        for one in task.instances:
            reference = one.references[0].strip()
            if reference and reference not in asked and ruler.count(reference) <= max_target:
                asked[reference] = source(task.definition, task.examples[:shots], one.input, ruler, max_source).text
            if len(asked) == count:
                break
        if asked:
            found.append(Questions(task.name, tuple(asked.values()), tuple(asked)))
    return found


def figures(scores: Sequence[TokenScores]) -> Figures:
    """Of a task whose k² texts, as :meth:`Questions.texts` gives them, were scored: the mean over its instances."""
    return Figures.mean(each(scores))


def each(scores: Sequence[TokenScores]) -> list[Figures]:
    """The same of each of its k instances."""
    k = round(len(scores) ** 0.5)
    totals = np.array([one.log_probs.sum(dtype=np.float64) for one in scores]).reshape(k, k)
    own = margins(totals).tolist() if k > 1 else [None]
    found = []
    for one, total, margin in zip(scores[:: k + 1], totals.diagonal().tolist(), own, strict=True):
        length, end = len(one.log_probs), float(one.ends[-1])
        found.append(Figures(total / length, margin, end, -(total + end) / (length + 1)))
    return found


def margins(totals: Floats) -> Floats:
    """By how many nats each instance's own reference is likelier than the other instances': (k,) of ``totals`` (k, k),
    the log-probability of reference j behind prompt i.

    With C = totals − means of rows − means of columns + mean of all, instance i has C[i, i] − mean of C[i, j] over
    j ≠ i, which is C[i, i] · k / (k − 1), for each row of C sums to 0. What is added to a whole row or column, such as
    a taste for short answers, changes nothing; what is added to the diagonal is the mean margin. Ours.
    """
    k = len(totals)
    centred = totals - totals.mean(1, keepdims=True) - totals.mean(0, keepdims=True) + totals.mean()
    return np.asarray(centred.diagonal() * k / (k - 1))


def summary(questions: Sequence[Questions], found: dict[str, Figures]) -> dict[str, Any]:
    """What ``scores.json`` holds under ``likelihood``: means over tasks, each task's figures, and what tells whether
    two evaluations scored the same."""
    margin = [one.margin for one in found.values() if one.margin is not None]
    means = {name: fmean(getattr(one, name) for one in found.values()) for name in ("content", "end", "loss")}
    counts = {one.task: len(one.references) for one in questions}
    return {
        "content": means["content"],
        "margin": fmean(margin) if margin else None,
        "end": means["end"],
        "loss": means["loss"],
        "without_margin": len(found) - len(margin),
        "questions": content_id(*(text for one in questions for pair in one.texts() for text in (one.task, *pair))),
        "tasks": {task: {"references": counts[task], **asdict(one)} for task, one in found.items()},
    }


def rounded(one: Figures) -> Figures:
    """To a millionth of a nat: what is below changes with the texts that were read beside them."""
    margin = None if one.margin is None else round(one.margin, 6)
    return replace(one, content=round(one.content, 6), margin=margin, end=round(one.end, 6), loss=round(one.loss, 6))
