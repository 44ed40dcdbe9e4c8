"""Reads a file of pairs, and says of a row that is no pair which one it is and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refine_af.errors import UsageError
from refine_af.feedback.base import Example
from refine_af.user_files import FileRow, Wanted, read_file, text_of, untold

_WANTED = Wanted((("instruction",), ("output",)), ("input",), whole=True)


@dataclass(frozen=True, slots=True)
class PairRow:
    """A row of a file: its line (in a list its item, in parquet its row), the pair that is judged, and all that it
    holds."""

    line: int
    example: Example
    fields: dict[str, Any]


def read_pairs(path: Path, tell: Callable[[str], object] = untold) -> list[PairRow]:
    """Rows of ``instruction`` and ``output``, with or without ``input``, in any form that is read; ``tell`` is called
    with what a user should know of how.

    Raises UsageError naming the file and the line.
    """
    read = read_file(path, str(path), _WANTED)
    if not read.rows:
        raise UsageError(f"{path} holds no pair; give rows of instruction, input and output")
    for note in read.notes:
        tell(note)
    return [PairRow(row.number, _example(row), row.fields) for row in read.rows]


def _example(row: FileRow) -> Example:
    for name in ("instruction", "output"):
        if row.named[name] is None:
            raise UsageError(f"{row.where}: no {name}")
    return Example(*(text_of(row.named, name, row.where) for name in ("instruction", "input", "output")))
