"""The folder of an evaluation: with which settings it was begun, and the journal from which a stopped one goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from refine_af.config import differences, shown_differences
from refine_af.errors import UsageError
from refine_af.language import ENGLISH

JOURNAL = "answers.jsonl"  # the settings, then each answer as it came


def is_complete(out: Path) -> bool:
    """Whether all is scored: scores.json is written last."""
    return (out / "scores.json").is_file()


def refuse_other_settings(out: Path, settings: dict[str, Any]) -> None:
    """Raises UsageError where the folder holds an evaluation with other settings, or anything else."""
    if is_complete(out):
        known = _settings_of(out / "scores.json", read_scores(out))
    elif (out / JOURNAL).is_file():
        rows = whole_lines(out / JOURNAL)
        if not rows:  # the process was killed before it had written a line
            return
        known = _settings_of(out / JOURNAL, rows[0])
    elif out.is_dir() and any(not file.name.startswith(".") for file in out.iterdir()):
        raise UsageError(f"{out} holds other files and no evaluation; name another --out")
    else:
        return
    known = {"tokenization": ENGLISH.tokenization, **known}  # which older evaluations didn't name
    if changed := [_told(line) for line in differences(known, settings)]:
        raise UsageError(
            f"{out} was begun with other settings (then -> now: {shown_differences(changed)}): "
            "use the old ones, or another --out"
        )


# Settings whose values are hashes: that they differ is all that can be said.
_HASHES = {
    "tasks": "other tasks, or their file has changed",
    "weights": "another model, or its files have changed or moved",
    "template": "another chat template",
}


def _told(difference: str) -> str:
    return _HASHES.get(difference.split(":")[0], difference)


def _settings_of(file: Path, row: Mapping[str, Any]) -> dict[str, Any]:
    """What ``row`` of the file says that the evaluation was begun with."""
    settings = row.get("settings")
    if not isinstance(settings, dict):
        raise _damaged(file)
    return settings


def read_scores(out: Path) -> dict[str, Any]:
    """What ``scores.json`` holds. Raises UsageError where it is damaged."""
    return _decoded((out / "scores.json").read_bytes(), out / "scores.json")


def _decoded(raw: bytes, file: Path) -> dict[str, Any]:
    try:
        row = json.loads(raw)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        raise _damaged(file)
    return row


def _damaged(file: Path) -> UsageError:
    return UsageError(f"{file} is damaged; name another --out, or remove its folder")


def line_of(row: Mapping[str, Any]) -> str:
    """A row of JSONL."""
    return json.dumps(row, ensure_ascii=False) + "\n"


def whole_lines(journal: Path) -> list[dict[str, Any]]:
    """The rows of a journal, without a last line that a killed process left half written."""
    return [_decoded(line, journal) for line in journal.read_bytes().split(b"\n")[:-1]]


def take_off_half_a_line(journal: Path) -> None:
    """So that the next row begins a line of its own."""
    raw = journal.read_bytes()
    whole = raw.rfind(b"\n") + 1
    if whole < len(raw):
        with journal.open("r+b") as file:
            file.truncate(whole)
