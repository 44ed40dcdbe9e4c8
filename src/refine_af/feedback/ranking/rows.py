"""Reads a file of pairs, and says of a line that can't be read which one it is and why."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refine_af.errors import UsageError
from refine_af.feedback.base import Example


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
    text = _text(path)
    if path.suffix.lower() in (".json", ".gz", ".parquet"):
        raise UsageError(f"{path}: {path.suffix} files are not read; give JSONL or CSV")
    rows = _csv_rows(path, text) if path.suffix.lower() == ".csv" else _jsonl_rows(path, text)
    found = [PairRow(line, _example(f"{path}, line {line}", fields), fields) for line, fields in rows]
    if not found:
        raise UsageError(f"{path} holds no pair; give rows of instruction, input and output")
    return found


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes().removeprefix(b"\xef\xbb\xbf")  # the mark that some editors put first
        return raw.decode("utf-8").replace("\r\n", "\n")
    except FileNotFoundError:
        raise UsageError(f"{path} is not there") from None
    except IsADirectoryError:
        raise UsageError(f"{path} is a folder; give a JSONL or CSV file") from None
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise UsageError(f"{path}, line {line}: not UTF-8; save the file as UTF-8") from None
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}") from None


def _jsonl_rows(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    # Not splitlines: JSON may hold U+2028 and its like inside a string.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError) as error:
            problem = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            raise UsageError(f"{path}, line {number}: broken JSON ({problem})") from None
        if not isinstance(fields, dict):
            raise UsageError(f"{path}, line {number}: not an object with instruction, input and output")
        yield number, fields


def _csv_rows(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        for name in ("instruction", "output"):
            if name not in (reader.fieldnames or ()):
                raise UsageError(f"{path}, line 1: no column named {name}")
        for fields in reader:
            if None in fields:
                raise UsageError(f"{path}, line {reader.line_num}: more cells than columns; quote what holds a comma")
            yield reader.line_num, dict(fields)
    except csv.Error as error:
        raise UsageError(f"{path}, line {reader.line_num + 1}: broken CSV ({error})") from None


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
