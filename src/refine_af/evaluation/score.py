"""What `refine-af score` does before it prints: anybody's predictions, scored as Super-NaturalInstructions does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refine_af.errors import UsageError
from refine_af.evaluation.scores import ScoredAnswer, score_answers, summary
from refine_af.evaluation.tasks import load_tasks, references
from refine_af.language import ENGLISH, Language, unseen_note
from refine_af.user_files import FileRow, Wanted, read_file, yes_or_no

_WANTED = Wanted((("id", "instance_id"), ("prediction",)), ("missing",))


@dataclass(frozen=True, slots=True)
class ScoredFile:
    """A file's predictions with their scores. ``unknown``: predictions whose id no task has; they count nowhere."""

    rows: tuple[ScoredAnswer, ...]
    unknown: int
    notes: tuple[str, ...]
    tokenization: str

    def summary(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        return {**summary(self.rows), "settings": {"tokenization": self.tokenization}}

    def told(self) -> list[str]:
        """What a user should know beside the figures, a sentence each."""
        missing = sum(row.missing for row in self.rows)
        told = list(self.notes)
        if missing:
            told.append(f"{missing:,} of {len(self.rows):,} instances have no prediction and are scored 0")
        if self.unknown:
            told.append(f"{self.unknown:,} predictions have an id that no task has; they count nowhere")
        return told


def score_file(
    predictions: Path, tasks: Path, instances: int | None = None, language: Language = ENGLISH
) -> ScoredFile:
    """Scores the predictions of the tasks' instances, or of the first ``instances`` of each task, by the words of a
    ``language``.

    Raises UsageError for a file that can't be read, an id that is there twice, or where no prediction fits the tasks.
    """
    loaded = load_tasks(tasks, instances)
    answers, notes = read_predictions(predictions)
    if not answers:
        raise UsageError(f"{predictions} holds no prediction; give rows of id, prediction")
    known = {one.id for task in loaded.tasks for one in task.instances}
    unknown = [id for id in answers if id not in known]
    if len(unknown) == len(answers):
        raise UsageError(
            f"{predictions}: no id matches {tasks}: ids are like {min(unknown)!r} here and {min(known)!r} there"
        )
    rows = tuple(score_answers(loaded.tasks, answers, language))
    texts = [*references(loaded.tasks), *(row.prediction for row in rows)]
    unseen = unseen_note(texts, "references and predictions", language, "--language")
    told = (*notes, *loaded.notes, *filter(None, (unseen,)))
    return ScoredFile(rows, len(unknown), told, language.tokenization)


def read_predictions(path: Path) -> tuple[dict[str, str], tuple[str, ...]]:
    """Instance id to prediction, from rows with ``id`` (or ``instance_id``) and ``prediction`` in any form that is
    read; and what a user should know of how they were read.

    A row that is marked ``missing`` is none. Raises UsageError naming the file and the line.
    """
    if path.is_dir():
        path = path / "predictions.jsonl"  # an evaluation's folder
    answers: dict[str, str] = {}
    places: dict[str, FileRow] = {}
    read = read_file(path, str(path), _WANTED)
    for row in read.rows:
        id, prediction = _id(row), row.named["prediction"]
        if yes_or_no(row.named, "missing", row.where):
            continue
        if not isinstance(prediction, str):
            raise UsageError(f"{row.where}: no prediction; give a text, or leave the line out")
        if (first := places.setdefault(id, row)) is not row:
            earlier = first.where.rpartition(", ")[2]
            raise UsageError(f"{row.where}: the id {id!r} stands in {earlier} too; keep one prediction for it")
        answers[id] = prediction
    return answers, read.notes


def _id(row: FileRow) -> str:
    id = next((row.named[key] for key in ("id", "instance_id") if row.named.get(key) not in (None, "")), None)
    if isinstance(id, bool) or not isinstance(id, (str, int)):
        raise UsageError(f"{row.where}: no id; each prediction needs the id of its instance")
    return str(id)
