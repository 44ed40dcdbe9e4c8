"""Reads the files that users hand over, JSONL and CSV, gzipped or not; each fault is one line with the file and where
in it.

What the fields of a row mean is left to those who ask for it.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from refine_af.errors import UsageError

Numbered = tuple[int, dict[str, Any]]  # the line where a row ends, the first being 1, and the row's fields


def read_objects(path: Path, name: str, columns: Sequence[str], *, every: bool = False) -> Iterator[Numbered]:
    """The rows of a CSV file by its ending, whose first line must have one of ``columns`` or ``every`` one of them,
    or else of JSONL.

    Raises UsageError that begins with ``name`` and, where there is one, the line.
    """
    text = read_text(path, name)
    if path.name.lower().endswith(".csv"):
        return csv_rows(text, name, columns, every=every)
    return jsonl_rows(text, name, columns)


def read_text(path: Path, name: str, expected: str = "a JSONL or CSV file") -> str:
    """The file's text, unpacked where its name ends in .gz, without a byte order mark.

    Raises UsageError that begins with ``name``. ``expected``: what to give in place of a folder.
    """
    try:
        raw = path.read_bytes()
        if path.name.lower().endswith(".gz"):
            raw = gzip.decompress(raw)
        raw = raw.removeprefix(b"\xef\xbb\xbf")  # the mark that some editors put first
        return raw.decode("utf-8").replace("\r\n", "\n")
    except FileNotFoundError:
        raise UsageError(f"{name} is not there") from None
    except IsADirectoryError:
        raise UsageError(f"{name} is a folder; give {expected}") from None
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise UsageError(f"{name}, line {line}: not UTF-8; save the file as UTF-8") from None
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise UsageError(f"{name} is no whole gzip file; get it again") from None
    except OSError as error:
        raise UsageError(f"{name} can't be read: {error.strerror}") from None


def numbered_lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, with their numbers."""
    # Not splitlines: JSON may hold U+2028 and its like inside a string.
    return ((number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip())


def jsonl_rows(text: str, name: str, columns: Sequence[str]) -> Iterator[Numbered]:
    """One object a line, which should have one of ``columns``; that is left to the caller."""
    for number, line in numbered_lines(text):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            # Beside broken syntax: numbers of thousands of digits, thousands of nested brackets.
            problem = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            raise UsageError(f"{name}, line {number}: broken JSON ({problem})") from None
        if not isinstance(row, dict):
            raise UsageError(f"{name}, line {number}: not an object with {' or '.join(columns)}")
        yield number, row


def csv_rows(text: str, name: str, columns: Sequence[str], *, every: bool = False) -> Iterator[Numbered]:
    """One object a row, its names from the first, which must have one of ``columns``, or ``every`` one of them."""
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        missing = [column for column in columns if column not in (reader.fieldnames or ())]
        if missing and (every or len(missing) == len(columns)):
            raise UsageError(f"{name}, line 1: no column named {' or '.join(missing)}")
        for row in reader:
            if None in row:
                raise UsageError(
                    f"{name}, line {reader.line_num}: more cells than columns; put quotes around what holds a comma"
                )
            yield reader.line_num, dict(row)
    except csv.Error as error:
        # The reader counts the lines of the rows before this one.
        raise UsageError(f"{name}, line {reader.line_num + 1}: broken CSV ({error})") from None
