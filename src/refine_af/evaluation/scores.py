"""From answers to the official figures: each instance's scores, and their means by task and by category."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from refine_af.evaluation.metrics import exact_match, rouge_l
from refine_af.evaluation.tasks import EvaluationTask
from refine_af.language import ENGLISH, Language

# Tk-Instruct's own list (src/compute_metrics.py): exact match for these, ROUGE-L for all others.
EXACT_MATCH_CATEGORIES = frozenset(
    (
        "Textual Entailment",
        "Cause Effect Classification",
        "Coreference Resolution",
        "Dialogue Act Recognition",
        "Answerability Classification",
        "Word Analogy",
    )
)


@dataclass(frozen=True, slots=True)
class ScoredAnswer:
    """An instance with its answer and scores, in [0, 100]. A missing answer is empty and scores 0."""

    id: str
    task: str
    category: str
    prediction: str
    rouge_l: float
    exact_match: float
    missing: bool = False

    def as_row(self) -> dict[str, Any]:
        """A line of ``predictions.jsonl``."""
        row = {name: getattr(self, name) for name in ("id", "task", "category", "prediction", "rouge_l", "exact_match")}
        return {**row, "missing": True} if self.missing else row


def score_answers(
    tasks: Iterable[EvaluationTask], answers: Mapping[str, str], language: Language = ENGLISH
) -> list[ScoredAnswer]:
    """Every instance of the tasks, in their order, scored against its references; ``answers`` by instance id."""
    scored = []
    for task in tasks:
        for one in task.instances:
            text = answers.get(one.id)
            values = (0.0, 0.0) if text is None else _scores(text, one.references, language)
            scored.append(ScoredAnswer(one.id, task.name, task.category, text or "", *values, missing=text is None))
    return scored


def _scores(text: str, references: Sequence[str], language: Language) -> tuple[float, float]:
    return rouge_l(text, references, language), exact_match(text, references, language)


def summary(scored: Sequence[ScoredAnswer]) -> dict[str, Any]:
    """Means over instances, overall (the official figure), by task and by category, in the order of the rows.

    A category's ``metric`` is the one that its authors report for it. Tasks without a category are in none.
    """
    categories = {
        name: {
            **_means(rows),
            "metric": "exact_match" if name in EXACT_MATCH_CATEGORIES else "rouge_l",
            "instances": len(rows),
        }
        for name, rows in _grouped((one.category, one) for one in scored if one.category).items()
    }
    tasks = {
        name: {"category": rows[0].category, **_means(rows), **_counts(rows)}
        for name, rows in _grouped((one.task, one) for one in scored).items()
    }
    return {**_means(scored), **_counts(scored), "tasks": tasks, "categories": categories}


def _grouped(pairs: Iterable[tuple[str, ScoredAnswer]]) -> dict[str, list[ScoredAnswer]]:
    groups: dict[str, list[ScoredAnswer]] = {}
    for name, one in pairs:
        groups.setdefault(name, []).append(one)
    return groups


def _means(rows: Sequence[ScoredAnswer]) -> dict[str, float]:
    return {"rouge_l": fmean(r.rouge_l for r in rows), "exact_match": fmean(r.exact_match for r in rows)}


def _counts(rows: Sequence[ScoredAnswer]) -> dict[str, int]:
    return {"instances": len(rows), "missing": sum(r.missing for r in rows)}
