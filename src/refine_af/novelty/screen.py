"""The novelty filter on files: which rows repeat an earlier one, and which repeat a row of another file."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refine_af.errors import UsageError
from refine_af.files import write_text
from refine_af.language import ENGLISH, Language, unseen_note
from refine_af.novelty.index import NoveltyIndex
from refine_af.user_files import numbered_lines, read_objects, read_text

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
    """What became of a file's rows, in their order, and what a user should know beside it, a sentence each."""

    kept: tuple[Row, ...]
    dropped: tuple[Dropped, ...]
    tokenization: str = ENGLISH.tokenization
    notes: tuple[str, ...] = ()

    def summary(self) -> dict[str, Any]:
        reasons = Counter(d.reason for d in self.dropped)
        return {
            "read": len(self.kept) + len(self.dropped),
            "kept": len(self.kept),
            "dropped": len(self.dropped),
            "reasons": {reason: reasons[reason] for reason in (NOT_NOVEL, CONTAMINATION)},
            "tokenization": self.tokenization,
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


def screen(
    rows: Sequence[Row], against: Sequence[Row] = (), threshold: float = 0.7, language: Language = ENGLISH
) -> Screened:
    """Decides one row after another, by the words of a ``language``. A row that repeats one of ``against`` is
    contamination, whatever else it repeats.

    Raises UsageError for a threshold outside (0, 1].
    """
    if not 0 < threshold <= 1:
        raise UsageError(f"--threshold must lie in (0, 1], not {threshold}")
    foreign, own = (NoveltyIndex(threshold, language) for _ in range(2))
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
    return Screened(tuple(kept), tuple(dropped), language.tokenization, _notes([*rows, *against], language))


def _notes(rows: Sequence[Row], language: Language) -> tuple[str, ...]:
    """What the words that are compared leave out."""
    unseen = unseen_note((row.text for row in rows), "these rows", language, "--language")
    wordless = sum(not language.tokens(row.text) for row in rows)
    told = f"{wordless:,} of {len(rows):,} rows hold no word that is compared, so that they repeat nothing"
    return tuple(note for note in (unseen, told if wordless else None) if note)


def read_rows(path: Path) -> list[Row]:
    """The rows of a JSONL or CSV file by its ending, ``instruction`` or else ``text`` compared; else one text a line.

    Blank lines are no rows. Raises UsageError naming the file and the line.
    """
    ending = path.suffix.lower()
    if ending in (".csv", ".jsonl", ".ndjson"):
        return [_row(path, line, fields) for line, fields in read_objects(path, str(path), _FIELDS)]
    if ending in (".json", ".gz", ".parquet"):
        raise UsageError(f"{path}: {ending} files are not read; give JSONL, CSV, or one text a line")
    text = read_text(path, str(path), "a JSONL or CSV file, or one text a line")
    return [Row(line, content, {"text": content}) for line, content in numbered_lines(text)]


def _row(path: Path, line: int, fields: dict[str, Any]) -> Row:
    name = next((f for f in _FIELDS if fields.get(f) is not None), None)
    if name is None:
        raise UsageError(f"{path}, line {line}: neither an instruction nor a text")
    if not isinstance(fields[name], str):
        raise UsageError(f"{path}, line {line}: {name} is {type(fields[name]).__name__}, not a text")
    return Row(line, fields[name], fields)


def _jsonl(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
