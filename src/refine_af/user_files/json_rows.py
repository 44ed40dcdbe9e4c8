"""Rows out of JSON: one object a line, objects over several lines, or one list of objects."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from refine_af.errors import UsageError
from refine_af.user_files.text import numbered_lines

Placed = tuple[str, int, dict[str, Any]]  # "line" or "item", its number from 1, and the row's fields
_SPACE = re.compile(r"[ \t\r\n]*")


def json_rows(text: str, name: str, expected: str) -> Iterator[Placed]:
    """The objects in their order; ``expected`` names what one should have.

    Raises UsageError that begins with ``name`` and says where.
    """
    start = _skipped(text, 0)
    if text.startswith("[", start):
        rows = _items(text, name, start)
    elif start < len(text) and not text.startswith("{", start):
        line = text.count("\n", 0, start) + 1
        raise UsageError(
            f"{name}, line {line}: not a JSON object with {expected}; if the file is a table, name it .csv or .tsv"
        )
    elif _goes_over_lines(text, start):
        rows = _following(text, name, start)
    else:
        rows = _lines(text, name)
    for place, number, row in rows:
        if not isinstance(row, dict):
            raise UsageError(f"{name}, {place} {number}: not an object with {expected}")
        yield place, number, row


def _lines(text: str, name: str) -> Iterator[tuple[str, int, Any]]:
    for number, line in numbered_lines(text):
        row, end = _value(line, _skipped(line, 0), f"{name}, line {number}")
        if _skipped(line, end) < len(line):
            raise UsageError(f"{name}, line {number}: broken JSON (text after the object)")
        yield "line", number, row


def _goes_over_lines(text: str, start: int) -> bool:
    """Whether the first line is no JSON, and the first lines together are."""
    end = text.find("\n", start)
    if end == -1 or not text.startswith("{", start):
        return False
    try:
        _DECODER.raw_decode(text[start:end])
    except (ValueError, RecursionError):
        try:
            _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            return False
        return True
    return False


def _following(text: str, name: str, at: int) -> Iterator[tuple[str, int, Any]]:
    """Values that follow one another, wherever their lines end."""
    number = 0
    while at < len(text):
        number += 1
        row, at = _value(text, at, f"{name}, item {number}")
        yield "item", number, row
        at = _skipped(text, at)


def _items(text: str, name: str, at: int) -> Iterator[tuple[str, int, Any]]:
    """The items of the list that begins at ``at``, one by one, so that a fault is told with its item."""
    number, at = 0, _skipped(text, at + 1)
    while not text.startswith("]", at):
        number += 1
        row, at = _value(text, at, f"{name}, item {number}")
        yield "item", number, row
        at = _skipped(text, at)
        if text.startswith(",", at):
            at = _skipped(text, at + 1)
        elif not text.startswith("]", at):
            raise UsageError(f"{name}, item {number}: broken JSON (a comma or ] is missing after it)")
    if _skipped(text, at + 1) < len(text):
        raise UsageError(f"{name}: broken JSON (text after the list)")


def _value(text: str, at: int, where: str) -> tuple[Any, int]:
    try:
        found: tuple[Any, int] = _DECODER.raw_decode(text, at)
        return found
    except (ValueError, RecursionError) as error:
        # Beside broken syntax: numbers of thousands of digits, thousands of nested brackets, a key twice.
        problem = str(error)
        if isinstance(error, json.JSONDecodeError):
            line = f"line {error.lineno}, " if error.lineno > 1 else ""
            problem = f"{error.msg}, {line}column {error.colno}"
        raise UsageError(f"{where}: broken JSON ({problem})") from None


def _skipped(text: str, at: int) -> int:
    """The place of the first character from ``at`` that is no white space."""
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} stands twice")
    return fields


_DECODER = json.JSONDecoder(object_pairs_hook=_object)
