"""What people wrote, references of one kind of task behind each of its prompts, and what a model finds of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from refine_af.engines.base import Engine
from refine_af.errors import UsageError
from refine_af.evaluation.likelihood import REFERENCES, Figures, Questions, each
from refine_af.evaluation.subject import TokenRuler
from refine_af.evaluation.tasks import EvaluationTask, load_tasks
from refine_af.parts import Parts
from refine_af.prompts.answers import answer_frame, asked
from refine_af.prompts.super_ni import source
from refine_af.records import SeedTask, derived_random

FIGURES = ("content", "margin", "loss", "end")
FEWEST = 3  # references of a kind: with two, a margin is one difference
LONGEST_PROMPT, LONGEST_REFERENCE = 128, 32  # tokens; longer ones would take most of the time
_AT_ONCE = 8

Measured = dict[str, dict[str, float]]  # by unit, a task or a seed, each of FIGURES


def of_tasks(
    parts: Parts,
    path: Path,
    *,
    tasks: int = 99,
    fewest: int | None = None,
    instances: int = 5,
    longest: int = LONGEST_PROMPT,
    seed: int = 0,
) -> list[Questions]:
    """Of so many tasks of a file, drawn by the seed, the first instances whose first references differ.

    Left out are prompts of more than ``longest`` tokens, references of more than ``LONGEST_REFERENCE``, and tasks with
    fewer than ``FEWEST`` instances then. Raises UsageError where there are under ``fewest`` tasks (None: not so many).
    """
    known = list(load_tasks(path).tasks)
    derived_random(seed, "development tasks").shuffle(known)
    found: list[Questions] = []
    for task in known:
        questions = _of_task(parts, task, instances, longest)
        if len(questions.sources) >= FEWEST:
            found.append(questions)
        if len(found) == tasks:
            break
    needed = tasks if fewest is None else fewest
    if len(found) < needed:
        raise UsageError(
            f"{path} has {len(found)} tasks to ask, and {needed} are needed: a task takes {FEWEST} instances with "
            f"prompts of at most {longest} tokens and different references of at most {LONGEST_REFERENCE}; give more "
            "such tasks"
        )
    return found


def _of_task(parts: Parts, task: EvaluationTask, instances: int, longest: int) -> Questions:
    frame, ruler = answer_frame(parts.dialect), TokenRuler(parts.tokenizer)
    known: dict[str, str] = {}  # by reference
    for one in task.instances:
        reference = one.references[0].strip()
        made = source(task.definition, (), one.input, ruler, longest)
        prompt = frame.prompt(made.text)
        is_short = not made.is_cut and ruler.count(prompt) <= longest and ruler.count(reference) <= LONGEST_REFERENCE
        if reference and reference not in known and is_short:
            known[reference] = prompt
        if len(known) == instances:
            break
    return Questions(task.name, tuple(known.values()), tuple(known))


def of_seeds(parts: Parts, seeds: Sequence[SeedTask]) -> list[Questions]:
    """Seed tasks in groups of five that have an input or not, are classification or not, and have outputs of about
    one length. A seed whose output stands in its group already is left out, and so is a kind of fewer than ``FEWEST``:
    of too few there are no questions."""
    frame, ruler = answer_frame(parts.dialect), TokenRuler(parts.tokenizer)
    kinds: dict[tuple[bool, bool], dict[str, str]] = {}
    for one in sorted(seeds, key=lambda t: (len(t.output), t.id)):
        group = kinds.setdefault((one.is_classification, bool(one.input)), {})
        if one.output.strip() not in group and ruler.count(one.output) <= parts.config.evaluation.max_tokens:
            group[one.output.strip()] = frame.prompt(asked(one.instruction, one.input))
    found = []
    for number, known in enumerate(kinds.values()):
        for start, rows in enumerate(_parted(list(known.items()))):
            references, prompts = zip(*rows, strict=True)
            found.append(Questions(f"seeds {number}.{start}", tuple(prompts), tuple(references)))
    return found


def _parted(rows: list[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    """In groups of :data:`REFERENCES`; a rest of too few goes with the last group, or is left out where it is alone."""
    while len(rows) >= FEWEST:
        size = len(rows) if len(rows) < REFERENCES + FEWEST else REFERENCES
        yield rows[:size]
        rows = rows[size:]


def measured(engine: Engine, questions: Sequence[Questions], *, by_task: bool = True) -> Measured:
    """What a model finds of the references, in nats: see :mod:`refine_af.evaluation.likelihood`. The units are the
    tasks; else each reference is one."""
    found: Measured = {}
    for start in range(0, len(questions), _AT_ONCE):
        some = questions[start : start + _AT_ONCE]
        scores = iter(engine.token_scores([text for one in some for text in one.texts()]))
        for one in some:
            own = each([next(scores) for _ in one.texts()])
            if by_task:
                found[one.task] = _row(Figures.mean(own))
            else:
                found |= {f"{one.task}.{place}": _row(figures) for place, figures in enumerate(own)}
    return found


def _row(figures: Figures) -> dict[str, float]:
    return {name: getattr(figures, name) for name in FIGURES}
