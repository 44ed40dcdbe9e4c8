"""The novelty filter on files: which rows repeat an earlier one, and which repeat a row of another file."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refine_af.errors import UsageError
from refine_af.files import write_text
from refine_af.novelty.index import NoveltyIndex

NOT_NOVEL, CONTAMINATION = "not novel", "contamination"
_FIELDS = ("instruction", "text")


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a file: where it stands, the text that is compared, and all that it holds."""

    line: int
    text: str
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Dropped:
    """A row, why it was dropped, and the score and line of the row that it repeats."""

    row: Row
    reason: str
    rouge_l: float
    nearest_line: int


@dataclass(frozen=True, slots=True)
class Screened:
    """What became of a file's rows, in their order."""

    kept: tuple[Row, ...]
    dropped: tuple[Dropped, ...]

    def summary(self) -> dict[str, Any]:
        reasons = Counter(d.reason for d in self.dropped)
        return {
            "read": len(self.kept) + len(self.dropped),
            "kept": len(self.kept),
            "dropped": len(self.dropped),
            "reasons": {reason: reasons[reason] for reason in (NOT_NOVEL, CONTAMINATION)},
        }

    def write(self, folder: Path) -> None:
        """Writes kept.jsonl, the rows as they were, and dropped.jsonl, with reason, score and line beside."""
        dropped = [
            {**d.row.fields, "reason": d.reason, "rouge_l": d.rouge_l, "nearest_line": d.nearest_line}
            for d in self.dropped
        ]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_text(folder / "kept.jsonl", _jsonl([r.fields for r in self.kept]))
            write_text(folder / "dropped.jsonl", _jsonl(dropped))
        except OSError as error:
            raise UsageError(f"{folder} can't be written: {error.strerror}; name another folder") from None


def screen(rows: Sequence[Row], against: Sequence[Row] = (), threshold: float = 0.7) -> Screened:
    """Decides one row after another. A row that repeats one of ``against`` is contamination, whatever else it repeats.

    Raises UsageError for a threshold outside (0, 1].
    """
    if not 0 < threshold <= 1:
        raise UsageError(f"--threshold must lie in (0, 1], not {threshold}")
    foreign, own = NoveltyIndex(threshold), NoveltyIndex(threshold)
    foreign.add_many([row.text for row in against], [str(row.line) for row in against])
    kept, dropped = [], []
    for row in rows:
        if found := foreign.nearest(row.text):
            dropped.append(Dropped(row, CONTAMINATION, found[0], int(found[1])))
        elif found := own.nearest(row.text):
            dropped.append(Dropped(row, NOT_NOVEL, found[0], int(found[1])))
        else:
            own.add(row.text, str(row.line))
            kept.append(row)
    return Screened(tuple(kept), tuple(dropped))


def read_rows(path: Path) -> list[Row]:
    """The rows of a JSONL or CSV file by its ending, ``instruction`` or else ``text`` compared; else one text a line.

    Blank lines are no rows. Raises UsageError naming the file and the line.
    """
    text = _read(path)
    ending = path.suffix.lower()
    if ending == ".csv":
        return [_row(path, line, fields) for line, fields in _csv(path, text)]
    # Not splitlines: a text may hold U+2028 and its like.
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if ending in (".jsonl", ".ndjson"):
        return [_row(path, number, _object(path, number, line)) for number, line in lines]
    if ending in (".json", ".gz", ".parquet"):
        raise UsageError(f"{path}: {ending} files are not read; give JSONL, CSV, or one text a line")
    return [Row(number, line, {"text": line}) for number, line in lines]


def _read(path: Path) -> str:
    try:
        return path.read_bytes().removeprefix(b"\xef\xbb\xbf").decode("utf-8").replace("\r\n", "\n")
    except FileNotFoundError:
        raise UsageError(f"{path} is not there") from None
    except IsADirectoryError:
        raise UsageError(f"{path} is a folder; give a JSONL or CSV file, or one text a line") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8; save the file as UTF-8") from None
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}") from None


def _csv(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        if not set(_FIELDS) & set(reader.fieldnames or ()):
            raise UsageError(f"{path}, line 1: no column named instruction or text")
        for fields in reader:
            if None in fields:
                raise UsageError(f"{path}, line {reader.line_num}: more cells than columns; quote what holds a comma")
            yield reader.line_num, dict(fields)
    except csv.Error as error:
        raise UsageError(f"{path}, line {reader.line_num}: broken CSV ({error})") from None


def _object(path: Path, line: int, text: str) -> dict[str, Any]:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        problem = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise UsageError(f"{path}, line {line}: broken JSON ({problem})") from None
    if not isinstance(fields, dict):
        raise UsageError(f"{path}, line {line}: not an object with an instruction or a text")
    return fields


def _row(path: Path, line: int, fields: dict[str, Any]) -> Row:
    name = next((f for f in _FIELDS if fields.get(f) is not None), None)
    if name is None:
        raise UsageError(f"{path}, line {line}: neither an instruction nor a text")
    if not isinstance(fields[name], str):
        raise UsageError(f"{path}, line {line}: {name} is {type(fields[name]).__name__}, not a text")
    return Row(line, fields[name], fields)


def _jsonl(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
