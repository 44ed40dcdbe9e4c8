"""The tasks of an evaluation: their rows, and the readers of the three forms in which users have them.

How a model is asked is left to ``prompts/super_ni.py``, what an answer is worth to ``metrics.py``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from refine_af.errors import UsageError
from refine_af.records import SeedTask, content_id
from refine_af.user_files import Numbered, csv_rows, jsonl_rows, read_text

OFFICIAL_INSTANCES = 100  # of a task: the first ones, which its authors balanced by label
_SPLIT = "test_tasks.txt"
_LONGEST_NAME = 60  # characters of an instruction that name its task


@dataclass(frozen=True, slots=True)
class EvaluationInstance:
    """A question of a task and the answers that count as right, one at least."""

    id: str
    input: str
    references: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EvaluationTask:
    """A task: what is to be done, two worked examples of (input, output) or fewer, and its instances.

    ``category`` is empty for a user's own task that names none.
    """

    name: str
    category: str
    definition: str
    examples: tuple[tuple[str, str], ...]
    instances: tuple[EvaluationInstance, ...]

    def first(self, count: int | None) -> EvaluationTask:
        """The task with its first ``count`` instances; all of them for None."""
        return replace(self, instances=self.instances[:count])


@dataclass(frozen=True, slots=True)
class LoadedTasks:
    """Tasks in their order, and what is worth telling the user about them."""

    tasks: tuple[EvaluationTask, ...]
    notes: tuple[str, ...] = ()


def load_tasks(path: Path, instances: int | None = None) -> LoadedTasks:
    """The tasks of a folder or a file, each with its first ``instances`` (all of them without it).

    A folder is the repository of Super-NaturalInstructions, or one of task files (``*.json``): the tasks of its
    ``test_tasks.txt``, or all where it has none, each with its first 100 instances. A file is JSONL or CSV, also
    gzipped: rows of ``task``, ``category``, ``definition``, ``positive_examples``, ``instance_id``, ``input`` and
    ``references``, or a user's own of ``instruction`` and ``references`` or ``output``, with ``id``, ``input``,
    ``task`` and ``category`` where there are. Raises UsageError naming the file and the place.
    """
    loaded = _read_folder(path) if path.is_dir() else LoadedTasks(_read_file(path))
    tasks = tuple(task.first(instances) for task in loaded.tasks)
    seen: set[str] = set()
    for task in tasks:
        for one in task.instances:
            if one.id in seen:
                raise UsageError(f"{path}: the id {one.id!r} is there twice; give each instance its own")
            seen.add(one.id)
    if not seen:
        raise UsageError(f"{path} holds no instance; give rows of instruction, input and references, or task files")
    return LoadedTasks(tasks, loaded.notes)


def references(tasks: Iterable[EvaluationTask]) -> list[str]:
    """All answers that count as right."""
    return [text for task in tasks for one in task.instances for text in one.references]


def tasks_of_seeds(seeds: Iterable[SeedTask]) -> tuple[EvaluationTask, ...]:
    """Seed tasks as tasks of one instance each."""
    return _distinctly_named(
        [
            EvaluationTask(
                _short(seed.instruction),
                seed.category,
                seed.instruction,
                (),
                (EvaluationInstance(seed.id, seed.input, (seed.output,)),),
            )
            for seed in seeds
        ]
    )


def tasks_id(tasks: Iterable[EvaluationTask]) -> str:
    """A hash of all that decides a score: definitions, examples, inputs, references, and their order."""
    parts = []
    for task in tasks:
        parts += [task.name, task.category, task.definition, json.dumps(task.examples)]
        parts += [text for one in task.instances for text in (one.id, one.input, json.dumps(one.references))]
    return content_id(*parts)


# -- the official repository ---------------------------------------------------------------------------


def _read_folder(folder: Path) -> LoadedTasks:
    """The tasks of a split in its order, or else all in the order of their names."""
    inside = folder / "tasks" if (folder / "tasks").is_dir() else folder
    places = [place / _SPLIT for root in (folder, folder.parent) for place in (root / "splits" / "default", root)]
    split = next((place for place in places if place.is_file()), None)
    if split is None:
        names = sorted(path.stem for path in inside.glob("*.json"))
    else:
        names = list(dict.fromkeys(read_text(split, str(split), "the list of tasks").split()))
    there = [name for name in names if (inside / f"{name}.json").is_file()]
    if not there:
        raise UsageError(f"{folder} holds no task file (*.json); give a clone of allenai/natural-instructions")
    absent = len(names) - len(there)
    notes = (f"{absent} of the {len(names)} tasks of {split} have no file in {inside}",) if absent else ()
    return LoadedTasks(tuple(_official_task(inside / f"{name}.json") for name in there), notes)


def _official_task(path: Path) -> EvaluationTask:
    where = str(path)
    try:
        fields = json.loads(read_text(path, where))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where}: broken JSON ({error})") from None
    if not isinstance(fields, dict) or not isinstance(fields.get("Instances"), list):
        raise UsageError(f"{where} is no task file: it has no Instances")
    categories = fields.get("Categories")
    instances = []
    for number, row in enumerate(fields["Instances"][:OFFICIAL_INSTANCES], start=1):
        place = f"{where}, instance {number}"
        if not isinstance(row, dict):
            raise UsageError(f"{place}: not an object with input and output")
        id = _text(row, "id", place) or f"{path.stem}-{number}"
        instances.append(EvaluationInstance(id, _text(row, "input", place), _references(row, ("output",), place)))
    return EvaluationTask(
        path.stem,
        _only(categories, f"{where}: Categories"),
        _only(fields.get("Definition"), f"{where}: Definition"),
        _examples(fields.get("Positive Examples"), f"{where}: Positive Examples"),
        tuple(instances),
    )


def _only(value: Any, where: str) -> str:
    """A text, or the first of a list of texts, as the repository has had both."""
    first = value[0] if isinstance(value, list) and value else value
    if not isinstance(first, str):
        raise UsageError(f"{where} must be text")
    return first


# -- files of rows -------------------------------------------------------------------------------------


def _read_file(path: Path) -> tuple[EvaluationTask, ...]:
    name = str(path)
    text = read_text(path, name, "a JSONL file or a folder of task files")
    columns = ("definition", "instruction")
    as_csv = path.name.lower().removesuffix(".gz").endswith(".csv")
    rows = csv_rows(text, name, columns) if as_csv else jsonl_rows(text, name, columns)
    return _grouped(name, rows)


def _grouped(name: str, rows: Iterable[Numbered]) -> tuple[EvaluationTask, ...]:
    """Rows of one task, or without its name of one instruction, belong together wherever they stand."""
    heads: dict[tuple[str, str], EvaluationTask] = {}
    instances: dict[tuple[str, str], list[EvaluationInstance]] = {}
    for number, row in rows:
        where = f"{name}, line {number}"
        definition = _text(row, "definition", where) or _text(row, "instruction", where)
        if not definition:
            raise UsageError(f"{where}: no definition and no instruction")
        named = _text(row, "task", where)
        key = (named, "" if named else definition)
        head = EvaluationTask(
            named or _short(definition),
            _text(row, "category", where),
            definition,
            _examples(row.get("positive_examples"), f"{where}: positive_examples"),
            (),
        )
        known = heads.setdefault(key, head)
        if known.definition != definition:
            raise UsageError(f"{where}: task {named!r} has another definition in an earlier line")
        id = _text(row, "instance_id", where) or _text(row, "id", where) or str(number)
        references = _references(row, ("references", "output"), where)
        instances.setdefault(key, []).append(EvaluationInstance(id, _text(row, "input", where), references))
    return _distinctly_named([replace(head, instances=tuple(instances[key])) for key, head in heads.items()])


def _distinctly_named(tasks: Sequence[EvaluationTask]) -> tuple[EvaluationTask, ...]:
    """Instructions may begin alike: from the second on their names get a number."""
    names: set[str] = set()
    renamed = []
    for task in tasks:
        name, number = task.name, 1
        while name in names:
            number += 1
            name = f"{task.name} ({number})"
        names.add(name)
        renamed.append(replace(task, name=name))
    return tuple(renamed)


def _short(instruction: str) -> str:
    line = " ".join(instruction.split())
    return line if len(line) <= _LONGEST_NAME else f"{line[: _LONGEST_NAME - 1]}…"


def _text(row: dict[str, Any], key: str, where: str) -> str:
    value = row.get(key)
    if isinstance(value, int) and key in ("id", "instance_id"):
        return str(value)
    if value is None:
        return ""
    return _checked(value, f"{where}: {key}")


def _references(row: dict[str, Any], keys: Sequence[str], where: str) -> tuple[str, ...]:
    """The first of the fields that is there: a text, or a list of texts."""
    key = next((k for k in keys if row.get(k) is not None), None)
    if key is None:
        raise UsageError(f"{where}: no {' and no '.join(keys)}")
    values = [row[key]] if isinstance(row[key], str) else row[key]
    if not isinstance(values, list) or not values:
        raise UsageError(f"{where}: {key} must be a text or a list of texts, one at least")
    return tuple(_checked(value, f"{where}: {key}") for value in values)


def _examples(value: Any, where: str) -> tuple[tuple[str, str], ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(e, dict) for e in value):
        raise UsageError(f"{where} must be a list of objects with input and output")
    return tuple((_checked(e.get("input", ""), where), _checked(e.get("output"), where)) for e in value[:2])


def _checked(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise UsageError(f"{where} must be text, not {type(value).__name__}")
    if any("\ud800" <= ch <= "\udfff" for ch in value):
        raise UsageError(f"{where} holds half of a character (a lone surrogate)")
    return value
