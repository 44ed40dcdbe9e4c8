"""What `refine-af score-pairs` does before it prints: reads, checks, makes the reward, judges, writes."""

from __future__ import annotations

import sqlite3
import tempfile
from pathlib import Path

from refine_af.config import Config
from refine_af.errors import UsageError
from refine_af.exhaustion import exhaustion_explained
from refine_af.feedback.check import check_anchors, check_feedback, runs_models
from refine_af.feedback.ranking.rank import Ranked, check_writable, rank
from refine_af.feedback.ranking.rows import read_pairs
from refine_af.language import unseen_note
from refine_af.models import cache_folder, check_packages
from refine_af.parts import Parts
from refine_af.progress import Progress
from refine_af.seeds import shown_tasks
from refine_af.stages.context import calibration_pairs
from refine_af.store import Store


def rank_file(file: Path, config: Config, out: Path | None, progress: Progress) -> Ranked:
    """Judges the pairs of a file, and writes them to ``out`` with their scores where it is given.

    The reward is calibrated on the seed pairs that a run of the same config takes. Scores are kept in the user's cache,
    chunk by chunk. Raises UsageError, before anything is scored, for a file, a config or a place that can't be used.
    """
    rows = read_pairs(file, progress.note)
    if out is not None:
        check_writable(out)
    seeds = calibration_pairs(shown_tasks(config.seeds, config.seed), config)
    check_feedback(config.feedback, len(seeds))
    check_anchors(config)
    if runs_models(config.feedback):
        check_packages()
    texts = (text for row in rows for text in (row.example.prompt, row.example.output))
    if unseen := unseen_note(texts, str(file), config.reads, "--language"):
        progress.note(unseen)
    progress.note(f"{file}: {len(rows)} pairs; {config.feedback.name} is being prepared")
    remedy = "go on with a smaller feedback.batch_size or model.batch_size"
    with (
        exhaustion_explained(cache_folder(), remedy),
        _opened_memory() as memory,
        tempfile.TemporaryDirectory(prefix="refine-af-") as scratch,
    ):
        ranked = rank(rows, Parts(config, Path(scratch)).feedback(seeds, memory), progress)
    if out is not None:
        ranked.write(out)
    return ranked


def _opened_memory() -> Store:
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return Store(folder / "scores.db")
    except (OSError, UsageError, sqlite3.OperationalError) as error:
        raise UsageError(
            f"scores can't be kept in {folder} ({error.__cause__ or error}); set REFINE_AF_CACHE to a folder that can "
            "be written"
        ) from None
