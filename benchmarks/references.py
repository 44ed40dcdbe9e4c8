"""The development tasks by whose references students are measured, and what a model finds of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from refine_af.engines.base import Engine
from refine_af.errors import UsageError
from refine_af.evaluation.likelihood import Questions, figures
from refine_af.evaluation.subject import TokenRuler
from refine_af.evaluation.tasks import EvaluationTask, load_tasks
from refine_af.parts import Parts
from refine_af.prompts.answers import answer_frame
from refine_af.prompts.super_ni import source
from refine_af.records import derived_random

FIGURES = ("content", "margin", "loss", "end")
FEWEST = 3  # instances of a task: with two, a margin is one difference
LONGEST_PROMPT, LONGEST_REFERENCE = 128, 32  # tokens; longer ones would take most of the time
_TASKS_AT_ONCE = 8

Measured = dict[str, dict[str, float]]  # by task, each of FIGURES


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
        if len(questions.sources) >= FEWEST:
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
    """What a model finds of each task's references, in nats: see refine_af.evaluation.likelihood."""
    found: Measured = {}
    for start in range(0, len(questions), _TASKS_AT_ONCE):
        some = questions[start : start + _TASKS_AT_ONCE]
        scores = iter(engine.token_scores([text for one in some for text in one.texts()]))
        for one in some:
            own = figures([next(scores) for _ in one.texts()])
            found[one.task] = {name: getattr(own, name) for name in FIGURES}
    return found
