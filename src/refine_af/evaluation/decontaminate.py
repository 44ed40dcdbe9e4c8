"""Finds generated rows that repeat a text of an evaluation: a definition or an input of its tasks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from refine_af.evaluation.tasks import EvaluationTask
from refine_af.language import ENGLISH, Language
from refine_af.novelty import NoveltyIndex

FEWEST_WORDS = 4  # a shorter input, such as a number or a name, is met by chance


@dataclass(frozen=True, slots=True)
class Contamination:
    """A row that repeats an evaluation's text: its place, what it repeats (ROUGE-L in (0, 1]) and of which task."""

    row: int
    kind: Literal["definition", "input"]
    task: str
    rouge_l: float


def contaminated(
    rows: Sequence[Sequence[str]],
    tasks: Iterable[EvaluationTask],
    threshold: float = 0.7,
    language: Language = ENGLISH,
) -> list[Contamination]:
    """The rows, each of one text or several such as instruction and input, that match the tasks above ``threshold``.

    A row is told once, with its closest match; rows come in their order. Matches are those of the novelty filter:
    ROUGE-L without stemming.
    """
    index = NoveltyIndex(threshold, language)
    sources: list[tuple[Literal["definition", "input"], str]] = []
    texts: list[str] = []
    for task in tasks:
        sources.append(("definition", task.name))
        texts.append(task.definition)
        for one in task.instances:
            if language.amount(language.tokens(one.input)) >= FEWEST_WORDS:
                sources.append(("input", task.name))
                texts.append(one.input)
    index.add_many(texts)
    found = []
    for place, row in enumerate(rows):
        matches = [match for text in row if (match := index.nearest(text)) is not None]
        if matches:
            score, id = max(matches)
            found.append(Contamination(place, *sources[int(id)], score))
    return found
