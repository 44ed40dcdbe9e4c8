"""Percentile bootstrap intervals of what a comparison over tasks says: mean difference and shares of tasks won.

Two kinds of them: one draws tasks and takes each with the instances that it has; the other ("two levels") draws tasks
and then, for each drawn task, its instances. The second answers how the figures would move had the instances been
others too. It counts the instances' noise twice, as every bootstrap of nested samples does, so it is the wider one;
and where few instances decide a task, its shares are pulled towards even and towards ties.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from refine_af.evaluation.significance import Interval

RESAMPLES = 10_000
FEWEST = 6  # tasks, or instances of one, with fewer of which no interval is given: it would be far too narrow
_PLACES = 9  # differences are rounded to so many decimals: what is smaller comes from floating point, and is a tie
_SLICE = 1 << 17  # values at once: little memory, and few enough for the cache
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Levels:
    """95 % intervals of one figure, over tasks and over tasks and their instances; None where there are too few."""

    tasks: Interval | None
    instances: Interval | None


@dataclass(frozen=True, slots=True)
class GroupIntervals:
    """The intervals of a group of tasks: mean difference, share won of all tasks, and of the decided ones."""

    difference: Levels
    share: Levels
    share_decided: Levels


class TaskBootstrap:
    """Resamples of tasks whose instances' differences are given: T arrays of shape (instances of the task,).

    Needs memory for T × ``resamples`` numbers: 10 MB for 119 tasks. Equal differences and seed give equal intervals,
    and a group's intervals do not depend on what other groups are asked for.
    Raises ValueError for a task without instances.
    """

    def __init__(self, differences: Sequence[Floats], *, seed: int = 0, resamples: int = RESAMPLES) -> None:
        if any(len(one) == 0 for one in differences):
            raise ValueError("every task needs at least one instance")
        self._seed, self._resamples = seed, resamples
        self._sizes = [len(one) for one in differences]
        self.means: Floats = np.array([mean_difference(one) for one in differences])  # (T,)
        random = np.random.default_rng([seed, 0])
        # (T, R): each task's mean difference over instances drawn anew, R times.
        self._redrawn = np.array([_redrawn_means(one, resamples, random) for one in differences])

    def task(self, place: int) -> Interval | None:
        """The interval of one task's mean difference over its instances; None where it has fewer than six."""
        return _interval(self._redrawn[place]) if self._sizes[place] >= FEWEST else None

    def group(self, members: Sequence[int]) -> GroupIntervals:
        """The intervals over the tasks at these places."""
        if len(members) < FEWEST:
            none = Levels(None, None)
            return GroupIntervals(none, none, none)
        plain, nested = self._draw(np.asarray(members))
        return GroupIntervals(*(Levels(_interval(a), _interval(b)) for a, b in zip(plain, nested, strict=True)))

    def _draw(self, members: npt.NDArray[np.int64]) -> tuple[list[Floats], list[Floats]]:
        """Mean, share and share of the decided by resample, over tasks and over both levels: arrays of shape (R,)."""
        random = np.random.default_rng([self._seed, 1])
        count, rows = len(members), max(1, _SLICE // len(members))
        slots = np.arange(count)
        found: tuple[list[Floats], list[Floats]] = ([], [])
        for start in range(0, self._resamples, rows):
            size = min(rows, self._resamples - start)
            drawn = members[random.integers(0, count, (size, count))]
            # A task that is drawn twice into a resample has other instances each time: another column of its row.
            columns = (np.arange(start, start + size)[:, None] + slots) % self._resamples
            found[0].append(_figures(self.means[drawn]))
            found[1].append(_figures(self._redrawn[drawn, columns]))
        return list(np.hstack(found[0])), list(np.hstack(found[1]))


def mean_difference(differences: Floats) -> float:
    """The mean without the rounding errors of its sum, so that a tie is exactly zero."""
    return float(np.round(differences.mean(), _PLACES)) + 0.0


def _redrawn_means(values: Floats, resamples: int, random: np.random.Generator) -> Floats:
    """Means of as many values drawn with replacement: shape (resamples,)."""
    if (values == values[0]).all():  # as in the many tasks where both models answer alike
        return np.full(resamples, mean_difference(values))
    rows = max(1, _SLICE // len(values))
    sizes = [min(rows, resamples - start) for start in range(0, resamples, rows)]
    drawn = (random.integers(0, len(values), (size, len(values))) for size in sizes)
    return np.round(np.concatenate([values.take(indices).mean(axis=1) for indices in drawn]), _PLACES)


def _figures(differences: Floats) -> Floats:
    """Mean, share won of all and of the decided (NaN where none is) of each row of (R, T) differences: (3, R)."""
    wins, losses = (differences > 0).sum(axis=1), (differences < 0).sum(axis=1)
    decided = wins + losses
    share_decided = np.where(decided > 0, wins / np.maximum(decided, 1), np.nan)
    return np.array([differences.mean(axis=1), wins / differences.shape[1], share_decided])


def _interval(values: Floats) -> Interval | None:
    """The middle 95 %; resamples without a value are left out, None where there is no other."""
    kept = values[~np.isnan(values)]
    if not len(kept):
        return None
    low, high = np.percentile(kept, [2.5, 97.5])
    return float(low), float(high)
