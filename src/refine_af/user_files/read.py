"""A file's rows, whatever its form is: JSONL, a JSON list, CSV or parquet, gzipped or not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refine_af.errors import UsageError
from refine_af.user_files.chats import from_chat
from refine_af.user_files.json_rows import Placed, json_rows
from refine_af.user_files.names import Found, Wanted, find_columns, is_known, needs
from refine_af.user_files.tables import PARQUET, csv_rows, parquet_rows
from refine_af.user_files.text import decoded, read_bytes

_PAIR = Wanted((("output",),), ("input",))
_TABLES = (".csv", ".tsv", ".tab")


@dataclass(frozen=True, slots=True)
class FileRow:
    """A row: its line (of a list its item, of parquet its row) from 1, where that is in words, its fields as the file
    has them and under the names that were asked for. ``is_cells``: all are text, as in CSV."""

    number: int
    where: str
    fields: dict[str, Any]
    named: dict[str, Any]
    is_cells: bool = False


@dataclass(frozen=True, slots=True)
class ReadFile:
    """Rows in their order, and what a user should know of how they were read, a sentence each."""

    rows: tuple[FileRow, ...]
    notes: tuple[str, ...]


def untold(note: str) -> None:
    """For notes that nobody is there to read."""


def read_file(path: Path, name: str, wanted: Wanted) -> ReadFile:
    """The rows of a CSV file by its ending, of parquet by its first bytes, or else of JSON.

    Raises UsageError that begins with ``name`` and says where.
    """
    raw = read_bytes(path, name)

    def check(columns: Sequence[str], where: str) -> None:
        if missing := find_columns(columns, wanted, where).missing:
            there = f"the columns are {', '.join(columns)}" if any(columns) else "the file is empty"
            raise UsageError(f"{where}: no column named {' or '.join(missing[0])}; {there}")

    is_table = is_csv(path)
    rows: Iterable[Placed]
    if raw.startswith(PARQUET):
        rows = parquet_rows(raw, name)
    elif is_table:
        rows = csv_rows(decoded(raw, name), name, lambda column: is_known(column, wanted), check)
    else:
        rows = json_rows(decoded(raw, name), name, " or ".join(wanted.needed[0]))
    return named_rows(rows, name, wanted, is_cells=is_table)


def is_csv(path: Path) -> bool:
    """Whether the name is that of a table in text, gzipped or not."""
    return path.name.lower().removesuffix(".gz").endswith(_TABLES)


def named_rows(rows: Iterable[Placed], name: str, wanted: Wanted, *, is_cells: bool = False) -> ReadFile:
    """The rows with their fields under the names that are ``wanted``."""
    known: dict[tuple[str, ...], Found] = {}
    made: list[FileRow] = []
    systems = 0
    for place, number, fields in rows:
        where = f"{name}, {place} {number}"
        row, has_system = from_chat(fields, where)
        systems += has_system
        columns = tuple(row)
        found = known.get(columns) or known.setdefault(columns, find_columns(columns, wanted, where))
        if found.missing:
            raise UsageError(f"{where}: {needs(found.missing, fields)}")
        named = {known: row[column] for known, column in found.columns.items()}
        made.append(FileRow(number, where, fields, named, is_cells))
    return ReadFile(tuple(made), tuple(_notes(name, known.values(), systems, whole=wanted.whole)))


def pair_of(fields: dict[str, Any], where: str) -> dict[str, Any]:
    """A pair inside of a row, under the names input and output. Raises UsageError that begins with ``where``."""
    found = find_columns(fields, _PAIR, where)
    if found.missing:
        raise UsageError(f"{where}: {needs(found.missing, fields)}")
    return {known: fields[column] for known, column in found.columns.items()}


def _notes(name: str, found: Iterable[Found], systems: int, *, whole: bool) -> list[str]:
    found = list(found)
    renamed = dict(item for one in found for item in one.renamed.items())
    unread = dict.fromkeys(column for one in found for column in one.unread) if whole else {}
    notes = [f"{name}: {column!r} is read as {known}" for column, known in renamed.items()]
    if unread:
        notes.append(f"{name}: not read: {', '.join(map(repr, list(unread)[:8]))}")
    if systems and whole:
        notes.append(f"{name}: the system messages of {systems} rows are not read")
    return notes
