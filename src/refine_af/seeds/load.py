"""Reads seed tasks from a file and says, for a line that can't be read, which one and why."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from refine_af.errors import UsageError
from refine_af.records import SeedTask, content_id
from refine_af.user_files import (
    FileRow,
    ReadFile,
    Wanted,
    json_rows,
    named_rows,
    pair_of,
    read_file,
    text_of,
    yes_or_no,
)

_WANTED = Wanted((("instruction",), ("output", "instances")), ("input", "is_classification", "category"), whole=True)


@dataclass(frozen=True, slots=True)
class LoadedSeeds:
    """The tasks in the file's order, and what is worth telling the user about them."""

    tasks: tuple[SeedTask, ...]
    notes: tuple[str, ...]


def load_seeds(path: str | None) -> LoadedSeeds:
    """The tasks of a file, or the built-in ones. Raises UsageError naming the file and the line.

    Rows hold ``instruction`` and either ``instances`` (Self-Instruct) or ``input`` and ``output``;
    ``is_classification`` and ``category`` are optional.
    """
    if path is None:
        text = resources.files("refine_af.seeds").joinpath("seed_tasks.jsonl").read_text(encoding="utf-8")
        name = "the built-in seeds"
        return _merged(named_rows(json_rows(text, name, "instruction"), name, _WANTED), name)
    return _merged(read_file(Path(path), f"seeds file {path}", _WANTED), path)


def _merged(read: ReadFile, where: str) -> LoadedSeeds:
    tasks: dict[str, SeedTask] = {}
    repeated = 0
    for row in read.rows:
        task = _task(row)
        key = " ".join(task.instruction.lower().split())
        if key in tasks:
            repeated += 1
        tasks.setdefault(key, task)
    if not tasks:
        raise UsageError(f"seeds file {where} holds no task; give at least one instruction with its output")
    notes = [f"{repeated} repeated instruction{'s' * (repeated > 1)} in {where} merged"] if repeated else []
    return LoadedSeeds(tuple(tasks.values()), (*read.notes, *notes))


def _task(row: FileRow) -> SeedTask:
    fields, where = row.named, row.where
    instruction = text_of(fields, "instruction", where).strip()
    if not instruction:
        raise UsageError(f"{where}: the instruction is empty")
    pair = fields
    if "instances" in fields:
        instances = fields["instances"]
        if not isinstance(instances, list) or not instances or not isinstance(instances[0], dict):
            raise UsageError(f"{where}: instances must be a list with at least one input-output pair")
        pair = pair_of(instances[0], f"{where}: instances")
    output = text_of(pair, "output", where).strip()
    if not output:
        raise UsageError(f"{where}: the output is empty")
    return SeedTask(
        id=content_id("instruction", instruction),
        instruction=instruction,
        input=text_of(pair, "input", where).strip(),
        output=output,
        is_classification=yes_or_no(fields, "is_classification", where),
        category=text_of(fields, "category", where),
    )
