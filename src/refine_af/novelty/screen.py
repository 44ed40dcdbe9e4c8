"""The novelty filter on files: which rows repeat an earlier one, and which repeat a row of another file."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refine_af.errors import UsageError
from refine_af.files import write_text
from refine_af.language import ENGLISH, Language, unseen_note
from refine_af.novelty.index import NoveltyIndex
from refine_af.user_files import FileRow, Wanted, is_csv, numbered_lines, read_file, read_text, untold, whole_text

NOT_NOVEL, CONTAMINATION = "not novel", "contamination"
_WANTED = Wanted((("instruction", "text"),))
_JSON_OR_PARQUET = (".jsonl", ".ndjson", ".json", ".parquet")


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a file: its line (in a list its item, in parquet its row), the text that is compared, and all that it
    holds."""

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
            raise UsageError(f"{folder} can't be written: {error.strerror}; choose another folder") from None


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
    return Screened(tuple(kept), tuple(dropped), language.tokenization, _notes(rows, against, language))


def _notes(rows: Sequence[Row], against: Sequence[Row], language: Language) -> tuple[str, ...]:
    """What the words that are compared leave out."""
    unseen = unseen_note((row.text for row in (*rows, *against)), "these rows", language, "--language")
    wordless = sum(not language.tokens(row.text) for row in rows)
    told = f"{wordless:,} of {len(rows):,} rows have no words to compare, so they are kept; see --language"
    return tuple(note for note in (unseen, told if wordless else None) if note)


def read_rows(path: Path, tell: Callable[[str], object] = untold) -> list[Row]:
    """The rows of a table or of JSON by the file's ending, ``instruction`` or else ``text`` compared; else one text a
    line, of which blank ones are no rows. ``tell`` is called with what a user should know of how they were read.

    Raises UsageError naming the file and the line.
    """
    ending = Path(path.name.lower().removesuffix(".gz")).suffix
    if is_csv(path) or ending in _JSON_OR_PARQUET:
        read = read_file(path, str(path), _WANTED)
        for note in read.notes:
            tell(note)
        return [_row(row) for row in read.rows]
    text = read_text(path, str(path), "a JSONL, CSV or parquet file, or one text a line")
    lines = list(numbered_lines(text))
    if lines and lines[0][1].lstrip().startswith(('{"', "[{")):
        raise UsageError(f"{path} looks like JSON; name it .jsonl to compare its instructions, not its lines")
    return [Row(line, content, {"text": content}) for line, content in lines]


def _row(row: FileRow) -> Row:
    text = next((value for name in _WANTED.names if (value := row.named.get(name)) is not None), None)
    if text is None:
        raise UsageError(f"{row.where}: neither an instruction nor a text")
    return Row(row.number, whole_text(text, f"{row.where}: the text"), row.fields)


def _jsonl(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
