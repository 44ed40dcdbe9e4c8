"""Reads a file of pairs, and says of a row that is no pair which one it is and why."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refine_af.errors import UsageError
from refine_af.feedback.base import Example
from refine_af.user_files import read_objects


@dataclass(frozen=True, slots=True)
class PairRow:
    """A row of a file: where it stands, the pair that is judged, and all that it holds."""

    line: int
    example: Example
    fields: dict[str, Any]


def read_pairs(path: Path) -> list[PairRow]:
    """The rows of a CSV file (by its ending) or of JSONL: ``instruction`` and ``output``, with or without ``input``.

    Raises UsageError naming the file and the line.
    """
    if path.suffix.lower() in (".json", ".gz", ".parquet"):
        raise UsageError(f"{path}: {path.suffix} files are not read; give JSONL or CSV")
    rows = read_objects(path, str(path), ("instruction", "output"), every=True)
    found = [PairRow(line, _example(f"{path}, line {line}", fields), fields) for line, fields in rows]
    if not found:
        raise UsageError(f"{path} holds no pair; give rows of instruction, input and output")
    return found


def _example(where: str, fields: dict[str, Any]) -> Example:
    texts = {}
    for name in ("instruction", "input", "output"):
        value = fields.get(name)
        if value is None:
            if name != "input":
                raise UsageError(f"{where}: no {name}")
            value = ""
        if not isinstance(value, str):
            raise UsageError(f"{where}: {name} must be text, not {type(value).__name__}")
        if any("\ud800" <= ch <= "\udfff" for ch in value):
            raise UsageError(f"{where}: {name} holds half of a character (a lone surrogate)")
        texts[name] = value
    return Example(**texts)
