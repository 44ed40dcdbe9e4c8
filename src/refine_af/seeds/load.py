"""Reads seed tasks from a file and says, for a line that can't be read, which one and why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from refine_af.errors import UsageError
from refine_af.records import SeedTask, content_id
from refine_af.user_files import Numbered, jsonl_rows, read_objects

_COLUMNS = ("instruction",)
_YES = {"true", "yes", "1"}


@dataclass(frozen=True, slots=True)
class LoadedSeeds:
    """The tasks in the file's order, and what is worth telling the user about them."""

    tasks: tuple[SeedTask, ...]
    notes: tuple[str, ...]


def load_seeds(path: str | None) -> LoadedSeeds:
    """The tasks of a file, or the built-in ones. Raises UsageError naming the file and the line.

    JSONL rows hold ``instruction`` and either ``instances`` (Self-Instruct) or ``input`` and ``output``;
    ``is_classification`` and ``category`` are optional. CSV has these names in its first line.
    """
    if path is None:
        text = resources.files("refine_af.seeds").joinpath("seed_tasks.jsonl").read_text(encoding="utf-8")
        return _merged(jsonl_rows(text, "the built-in seeds", _COLUMNS), "the built-in seeds")
    return _merged(read_objects(Path(path), f"seeds file {path}", _COLUMNS), path)


def _merged(rows: Iterable[Numbered], where: str) -> LoadedSeeds:
    tasks: dict[str, SeedTask] = {}
    repeated = 0
    for number, row in rows:
        task = _task(row, f"seeds file {where}, line {number}")
        key = " ".join(task.instruction.lower().split())
        if key in tasks:
            repeated += 1
        tasks.setdefault(key, task)
    if not tasks:
        raise UsageError(f"seeds file {where} holds no task; give at least one instruction with its output")
    notes = [f"{repeated} repeated instruction{'s' * (repeated > 1)} in {where} merged"] if repeated else []
    return LoadedSeeds(tuple(tasks.values()), tuple(notes))


def _task(row: dict[str, Any], where: str) -> SeedTask:
    instruction = _text(row, "instruction", where)
    if not instruction:
        raise UsageError(f"{where}: the instruction is empty")
    pair = row
    if "instances" in row:
        if not isinstance(row["instances"], list) or not row["instances"] or not isinstance(row["instances"][0], dict):
            raise UsageError(f"{where}: instances must be a list with at least one input-output pair")
        pair = row["instances"][0]
    output = _text(pair, "output", where)
    if not output:
        raise UsageError(f"{where}: the output is empty")
    return SeedTask(
        id=content_id("instruction", instruction),
        instruction=instruction,
        input=_text(pair, "input", where),
        output=output,
        is_classification=str(row.get("is_classification", "")).strip().lower() in _YES,
        category=str(row.get("category") or ""),
    )


def _text(row: dict[str, Any], key: str, where: str) -> str:
    value = row.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise UsageError(f"{where}: {key} must be text, not {type(value).__name__}")
    if any("\ud800" <= ch <= "\udfff" for ch in value):
        raise UsageError(f"{where}: {key} holds half of a character (a lone surrogate)")
    return value.strip()
