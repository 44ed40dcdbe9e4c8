"""How likely a model finds the references that people wrote for tasks, split into what style can and can't move.

Which tasks are asked is drawn here too; the models that are measured are others' affair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from refine_af.engines.base import Engine, TokenScores
from refine_af.errors import UsageError
from refine_af.evaluation.subject import TokenRuler
from refine_af.evaluation.tasks import EvaluationTask, load_tasks
from refine_af.parts import Parts
from refine_af.prompts.answers import answer_frame
from refine_af.prompts.super_ni import source
from refine_af.records import derived_random

FIGURES = ("content", "margin", "whole", "end")  # nats; higher is better
FEWEST = 3  # instances of a task: with two, a margin is one difference
LONGEST_PROMPT, LONGEST_REFERENCE = 128, 32  # tokens; longer ones would take most of the time
_TASKS_AT_ONCE = 8

Floats = npt.NDArray[np.float64]
Measured = dict[str, dict[str, float]]  # by task, each of FIGURES


@dataclass(frozen=True, slots=True)
class Questions:
    """A task's prompts, as an evaluation asks them without examples, and the reference of each; no two are the same."""

    task: str
    prompts: tuple[str, ...]
    references: tuple[str, ...]


def development_questions(
    parts: Parts, path: Path, *, tasks: int = 99, instances: int = 5, longest: int = LONGEST_PROMPT, seed: int = 0
) -> list[Questions]:
    """Of so many tasks, drawn by the seed, the first instances whose first references differ.

    Left out are prompts of more than ``longest`` tokens, references of more than ``LONGEST_REFERENCE``, and tasks with
    fewer than ``FEWEST`` instances then. Raises UsageError where there are not so many tasks.
    """
    known = list(load_tasks(path).tasks)
    derived_random(seed, "development tasks").shuffle(known)
    found: list[Questions] = []
    for task in known:
        questions = _questions(parts, task, instances, longest)
        if len(questions.prompts) >= FEWEST:
            found.append(questions)
        if len(found) == tasks:
            return found
    raise UsageError(
        f"{path} has {len(found)} tasks with {FEWEST} prompts of {longest} tokens; ask for fewer or longer"
    )


def _questions(parts: Parts, task: EvaluationTask, instances: int, longest: int) -> Questions:
    frame, ruler = answer_frame(parts.dialect), TokenRuler(parts.tokenizer)
    asked: dict[str, str] = {}  # by reference
    for one in task.instances:
        reference = one.references[0].strip()
        made = source(task.definition, (), one.input, ruler, longest)
        prompt = frame.prompt(made.text)
        is_short = not made.is_cut and ruler.count(prompt) <= longest and ruler.count(reference) <= LONGEST_REFERENCE
        if reference and reference not in asked and is_short:
            asked[reference] = prompt
        if len(asked) == instances:
            break
    return Questions(task.name, tuple(asked.values()), tuple(asked))


def measured(engine: Engine, questions: Sequence[Questions]) -> Measured:
    """What a model finds of each task's references, a mean over its instances, in nats.

    ``content``: log-probability a token of the own reference, its end token apart. ``end``: of the end token behind
    it. ``whole``: a token, with the end token. ``margin``: see :func:`margins`.
    """
    found: Measured = {}
    for start in range(0, len(questions), _TASKS_AT_ONCE):
        some = questions[start : start + _TASKS_AT_ONCE]
        texts = [(prompt, reference) for one in some for prompt in one.prompts for reference in one.references]
        scores = iter(engine.token_scores(texts))
        for one in some:
            rows = [[next(scores) for _ in one.references] for _ in one.prompts]  # (k, k)
            found[one.task] = _figures(rows)
    return found


def _figures(rows: Sequence[Sequence[TokenScores]]) -> dict[str, float]:
    totals = np.array([[one.log_probs.sum(dtype=np.float64) for one in row] for row in rows])  # (k, k)
    lengths = np.array([len(one.log_probs) for one in rows[0]])
    own, ends = totals.diagonal(), np.array([row[i].ends[-1] for i, row in enumerate(rows)], dtype=np.float64)
    values = {
        "content": own / lengths,
        "margin": margins(totals),
        "whole": (own + ends) / (lengths + 1),
        "end": ends,
    }
    return {name: float(values[name].mean()) for name in FIGURES}


def margins(totals: Floats) -> Floats:
    """By how many nats each instance's own reference is likelier than the other instances': (k,) of ``totals`` (k, k),
    the log-probability of reference j behind prompt i.

    With C = totals − means of rows − means of columns + mean of all, instance i has C[i, i] − mean of C[i, j] over
    j ≠ i, which is C[i, i] · k / (k − 1), for each row of C sums to 0. What is added to a whole row or column, such as
    a taste for short answers, changes nothing; what is added to the diagonal is the mean margin.
    """
    k = len(totals)
    centred = totals - totals.mean(1, keepdims=True) - totals.mean(0, keepdims=True) + totals.mean()
    return np.asarray(centred.diagonal() * k / (k - 1))
