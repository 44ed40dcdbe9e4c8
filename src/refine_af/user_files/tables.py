"""Rows out of tables: CSV with commas, semicolons, tabs or bars, and parquet."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from refine_af.errors import UsageError
from refine_af.user_files.json_rows import Placed

PARQUET = b"PAR1"  # how such a file begins
_SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_SAID_BY_EXCEL = re.compile(r'"?sep=([,;\t|])"?')

Check = Callable[[Sequence[str], str], None]  # of the columns' names, and where they stand


def csv_rows(text: str, name: str, known: Callable[[str], bool], check: Check) -> Iterator[Placed]:
    """One object a row, its names from the first row, which ``check`` may refuse. The separator is the one that makes
    most names ``known``. Rows whose cells are all empty are none.

    Raises UsageError that begins with ``name`` and the line.
    """
    first, _, rest = text.partition("\n")
    said = _SAID_BY_EXCEL.fullmatch(first.strip(" \r"))
    above, body = (1, rest) if said else (0, text)
    separator = said.group(1) if said else _separator(first, known)
    # With a space before each name there is one before each cell, also before its quote.
    spaced = any(cell.startswith(" ") for cell in _cells(body.partition("\n")[0], separator)[1:])
    reader = csv.reader(io.StringIO(body, newline=""), delimiter=separator, strict=True, skipinitialspace=spaced)
    header: list[str] | None = None
    line = above
    try:
        for cells in reader:
            if not cells and header is not None:
                continue
            line = above + reader.line_num
            if header is None:
                header = [cell.strip() for cell in cells]
                _check_once(header, f"{name}, line {line}")
                check(header, f"{name}, line {line}")
            elif len(cells) > len(header):
                what = f"put quotes around what holds a {_SEPARATORS[separator]}"
                raise UsageError(f"{name}, line {line}: more cells than columns; {what}")
            elif any(map(str.strip, cells)):
                absent = [None] * (len(header) - len(cells))
                yield "line", line, dict(zip(header, [*cells, *absent], strict=True))
    except csv.Error as error:
        problem = str(error)
        if "unexpected end" in problem:
            problem = "a quote is never closed; close it, or write a quote inside a cell twice, in quotes"
        elif "expected after" in problem:
            problem = "a cell goes on behind its closing quote; write a quote inside a cell twice, in quotes"
        raise UsageError(f"{name}, line {line + 1}: broken CSV ({problem})") from None
    if header is None:
        check([], f"{name}, line 1")


def _separator(header: str, known: Callable[[str], bool]) -> str:
    """The one that splits the header into most names that are known, or else into most cells."""

    def fit(separator: str) -> tuple[int, int]:
        cells = _cells(header, separator)
        return sum(map(known, cells)), len(cells)

    return max(_SEPARATORS, key=fit)


def _cells(line: str, separator: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=separator), [])
    except csv.Error:  # told when the row is read
        return []


def parquet_rows(raw: bytes, name: str) -> Iterator[Placed]:
    """One object a row. Raises UsageError that begins with ``name``."""
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.read_table(pyarrow.BufferReader(raw))
        rows = table.to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        problem = " ".join(str(error).split())[:200]
        raise UsageError(f"{name} is no whole parquet file ({problem}); download it again") from None
    _check_once(table.column_names, name)
    for number, row in enumerate(rows, start=1):
        # Dates and the like become text, since rows are written again as JSON.
        yield "row", number, json.loads(json.dumps(row, default=str))


def _check_once(names: Sequence[str], where: str) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1 and name]
    if twice:
        raise UsageError(f"{where}: the column {twice[0]!r} stands twice; keep one, or give each its own name")
