"""The tasks of an evaluation: their rows, and the readers of the three forms in which users have them.

How a model is asked is left to ``prompts/super_ni.py``, what an answer is worth to ``metrics.py``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from refine_af.errors import UsageError
from refine_af.records import SeedTask, content_id
from refine_af.user_files import FileRow, ReadFile, Wanted, pair_of, read_file, read_text, text_of, whole_text

OFFICIAL_INSTANCES = 100  # of a task: the first ones, which its authors balanced by label
_SPLIT = "test_tasks.txt"
_LONGEST_NAME = 60  # characters of an instruction that name its task
_WANTED = Wanted(
    (("definition", "instruction"), ("references", "output")),
    ("task", "category", "positive_examples", "instance_id", "id", "input"),
    whole=True,
)


@dataclass(frozen=True, slots=True)
class EvaluationInstance:
    """A question of a task and the answers that count as right, one at least; ``where`` it stands in a file."""

    id: str
    input: str
    references: tuple[str, ...]
    where: str = field(default="", compare=False)


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
    ``test_tasks.txt``, or all where it has none, each with its first 100 instances. A file is one of these, or in any
    form that is read: rows of ``task``, ``category``, ``definition``, ``positive_examples``, ``instance_id``, ``input``
    and ``references``, or a user's own of ``instruction`` and ``references`` or ``output``, with ``id``, ``input``,
    ``task`` and ``category`` where there are. Raises UsageError naming the file and the place.
    """
    loaded = _read_folder(path) if path.is_dir() else _read_file(path)
    tasks = tuple(task.first(instances) for task in loaded.tasks)
    seen: set[str] = set()
    for task in tasks:
        for one in task.instances:
            if one.id in seen:
                raise UsageError(f"{one.where}: the id {one.id!r} is used before; make it unique")
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


def _official_fields(path: Path) -> Any:
    """What a file of the repository holds, or what else is in it; None where it is no JSON."""
    try:
        return json.loads(read_text(path, str(path)))
    except (ValueError, RecursionError):
        return None


def _is_official(fields: Any) -> bool:
    return isinstance(fields, dict) and isinstance(fields.get("Instances"), list)


def _official_task(path: Path) -> EvaluationTask:
    where = str(path)
    fields = _official_fields(path)
    if not _is_official(fields):
        problem = "broken JSON" if fields is None else "it has no Instances"
        raise UsageError(f"{where} is no task file: {problem}")
    categories = fields.get("Categories")
    instances = []
    for number, row in enumerate(fields["Instances"][:OFFICIAL_INSTANCES], start=1):
        place = f"{where}, instance {number}"
        if not isinstance(row, dict):
            raise UsageError(f"{place}: not an object with input and output")
        id = _id(row, "id", place) or f"{path.stem}-{number}"
        answers = _references(row, ("output",), place)
        instances.append(EvaluationInstance(id, text_of(row, "input", place), answers, place))
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


def _read_file(path: Path) -> LoadedTasks:
    if path.name.lower().endswith(".json") and _is_official(_official_fields(path)):
        return LoadedTasks((_official_task(path),))
    read = read_file(path, str(path), _WANTED)
    return LoadedTasks(_grouped(read), read.notes)


def _grouped(read: ReadFile) -> tuple[EvaluationTask, ...]:
    """Rows of one task, or without its name of one instruction, belong together wherever they stand."""
    heads: dict[tuple[str, str], EvaluationTask] = {}
    instances: dict[tuple[str, str], list[EvaluationInstance]] = {}
    for row in read.rows:
        fields, where = row.named, row.where
        definition = text_of(fields, "definition", where) or text_of(fields, "instruction", where)
        if not definition:
            raise UsageError(f"{where}: no definition or instruction")
        named = text_of(fields, "task", where)
        key = (named, "" if named else definition)
        head = EvaluationTask(
            named or _short(definition),
            text_of(fields, "category", where),
            definition,
            _examples(fields.get("positive_examples") or None, f"{where}: positive_examples"),
            (),
        )
        known = heads.setdefault(key, head)
        if known.definition != definition:
            raise UsageError(f"{where}: task {named!r} was defined otherwise before; rename it")
        id = _id(fields, "instance_id", where) or _id(fields, "id", where) or str(row.number)
        one = EvaluationInstance(id, text_of(fields, "input", where), _own_references(row), where)
        instances.setdefault(key, []).append(one)
    return _distinctly_named([replace(head, instances=tuple(instances[key])) for key, head in heads.items()])


def _own_references(row: FileRow) -> tuple[str, ...]:
    """``references``, or where the field is empty ``output``; in a cell of text a list is written as JSON."""
    fields = dict(row.named)
    if row.is_cells and isinstance(cell := fields.get("references"), str):
        fields["references"] = _list_in_cell(cell, f"{row.where}: references")
    there = {key: value for key in ("references", "output") if (value := fields.get(key)) is not None}
    filled = {key: value for key, value in there.items() if not _is_blank(value, in_cell=row.is_cells)}
    if there and not filled:
        raise UsageError(f"{row.where}: {' and '.join(there)} {'are' if len(there) > 1 else 'is'} empty")
    return _references(filled, ("references", "output"), row.where)


def _is_blank(value: Any, *, in_cell: bool) -> bool:
    """A list of JSON may say that nothing is the right answer, as some of Super-NI's do; in a cell it is a slip."""
    if isinstance(value, str):
        return not value.strip()
    return in_cell and isinstance(value, list) and bool(value) and not any(str(one).strip() for one in value)


def _list_in_cell(cell: str, where: str) -> Any:
    """What a cell holds: the texts of a JSON list, or one text."""
    if not (cell.lstrip().startswith("[") and (cell.rstrip().endswith("]") or "]" not in cell)):
        return cell
    try:
        found = json.loads(cell)
    except (ValueError, RecursionError):
        if cell.strip()[1:].lstrip().startswith(("'", '"')):
            raise UsageError(f'{where} reads as a list and is none in JSON; write it as ["one", "two"]') from None
        return cell
    return found if isinstance(found, list) and all(isinstance(one, str) for one in found) else cell


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


def _id(fields: Mapping[str, Any], key: str, where: str) -> str:
    value = fields.get(key)
    return str(value) if isinstance(value, int) else text_of(fields, key, where)


def _references(fields: Mapping[str, Any], keys: Sequence[str], where: str) -> tuple[str, ...]:
    """The first of the fields that is there: a text, or a list of texts."""
    key = next((k for k in keys if fields.get(k) is not None), None)
    if key is None:
        raise UsageError(f"{where}: no {' or '.join(keys)}")
    values = [fields[key]] if isinstance(fields[key], str) else fields[key]
    if not isinstance(values, list) or not values:
        raise UsageError(f"{where}: {key} must be a text or a list of texts, one at least")
    return tuple(whole_text(value, f"{where}: {key}") for value in values)


def _examples(value: Any, where: str) -> tuple[tuple[str, str], ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(e, dict) for e in value):
        raise UsageError(f"{where} must be a list of objects with input and output")
    pairs = [pair_of(example, where) for example in value[:2]]
    return tuple((text_of(pair, "input", where), whole_text(pair["output"], where)) for pair in pairs)
