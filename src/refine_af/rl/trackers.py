"""Sends the policy's figures to the trackers that a user keeps, through accelerate's classes for them.

The rows in the run's database are what counts: a tracker gets a copy, and one that fails stops nothing but itself.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from refine_af.config import Config
from refine_af.errors import UsageError


def check_trackers(names: Sequence[str]) -> None:
    """Raises UsageError where a tracker's package is not installed. Imports nothing."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            f"policy.report_to: not installed: {', '.join(missing)}; get it with `pip install {' '.join(missing)}`"
        )


class Trackers:
    """The trackers of ``policy.report_to``, open while the context lasts. A resumed run goes on with its numbers."""

    def __init__(self, config: Config, folder: Path) -> None:
        self._config = config
        self._folder = folder
        self._open: list[Any] = []

    def __enter__(self) -> Trackers:
        names = self._config.policy.report_to
        if not names:
            return self
        from accelerate import PartialState
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        PartialState()  # accelerate's trackers ask it whether this process is the first
        for name in names:
            kind = LOGGER_TYPE_TO_CLASS[name]
            place = {"logging_dir": str(self._folder / "logs")} if kind.requires_logging_directory else {}
            tracker = kind("refine-af", **place)
            tracker.start()
            self._open.append(tracker)
        return self

    def log(self, iteration: int, figures: Mapping[str, float]) -> None:
        for tracker in self._open:
            tracker.log({f"policy/{name}": value for name, value in figures.items()}, step=iteration)

    def __exit__(self, *exc: object) -> None:
        for tracker in self._open:
            tracker.finish()
