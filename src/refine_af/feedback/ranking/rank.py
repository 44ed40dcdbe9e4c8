"""Judges the pairs of a file in chunks, and says what each component adds to the reward and to its differences."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from refine_af.errors import UsageError
from refine_af.feedback.base import Judgement
from refine_af.feedback.composite import Composite
from refine_af.feedback.ranking.rows import PairRow
from refine_af.files import write_text
from refine_af.progress import Progress

CHUNK = 256  # pairs: enough to sort by length, little enough to lose
REST = "gates and floor"


@dataclass(frozen=True, slots=True)
class Share:
    """A component over all pairs that have a value of it.

    ``mean`` and ``spread`` are of its raw values. ``contribution`` is what it adds to the reward in the mean, after its
    weight. ``variance`` is its share in the variance of the rewards, cov(contribution, reward) / var(reward): the
    shares of all components and of what gates and floor change add up to 1; a negative one works against the reward.
    ``correlation`` is that of its raw values with the rewards. None where all rewards, or all values, are alike.
    """

    mean: float
    spread: float
    weight: float
    contribution: float
    variance: float | None
    correlation: float | None


@dataclass(frozen=True, slots=True)
class Ranked:
    """A file's rows and their judgements, in the file's order."""

    rows: tuple[PairRow, ...]
    judgements: tuple[Judgement, ...]
    weights: dict[str, float]
    offset: float

    @property
    def rewards(self) -> list[float]:
        return [j.reward for j in self.judgements]

    def order(self) -> list[int]:
        """Places of the rows, the best first; the earlier one where rewards are alike."""
        return sorted(range(len(self.rows)), key=lambda i: -self.judgements[i].reward)

    def shares(self) -> dict[str, Share]:
        """By component, in the order of the reward's scorers."""
        return {name: self._share(name, weight) for name, weight in self.weights.items() if self._valued(name)}

    def rest(self) -> tuple[float, float | None]:
        """What gates, caps and the floor change: in the mean, and as a share of the rewards' variance."""
        changes = [j.reward - self.offset - sum(j.shares.values()) for j in self.judgements]
        return statistics.fmean(changes), _share_of_variance(changes, self.rewards)

    def summary(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        return {
            "count": len(self.rows),
            "mean_reward": statistics.fmean(self.rewards),
            "components": {name: asdict(share) for name, share in self.shares().items()},
        }

    def write(self, path: Path) -> None:
        """One JSON object a row, in the file's order: its own fields, and ``reward`` and ``components``."""
        lines = [
            json.dumps({**row.fields, "reward": j.reward, "components": j.components}, ensure_ascii=False) + "\n"
            for row, j in zip(self.rows, self.judgements, strict=True)
        ]
        try:
            write_text(path, "".join(lines))
        except OSError as error:
            raise UsageError(f"{path} can't be written: {error.strerror}; give another --out") from None

    def _valued(self, name: str) -> list[Judgement]:
        return [j for j in self.judgements if name in j.components]

    def _share(self, name: str, weight: float) -> Share:
        valued = self._valued(name)
        values = [j.components[name] for j in valued]
        added = [j.shares.get(name, 0.0) for j in self.judgements]
        return Share(
            mean=statistics.fmean(values),
            spread=statistics.pstdev(values),
            weight=weight,
            contribution=statistics.fmean(added),
            variance=_share_of_variance(added, self.rewards),
            correlation=_correlation(values, [j.reward for j in valued]),
        )


def rank(rows: Sequence[PairRow], feedback: Composite, progress: Progress) -> Ranked:
    """Judges the rows, ``CHUNK`` at a time; with a feedback that remembers, a second call begins where one stopped."""
    progress.begin("score-pairs", len(rows), "pairs")
    judgements: list[Judgement] = []
    for start in range(0, len(rows), CHUNK):
        judgements += feedback.judge([row.example for row in rows[start : start + CHUNK]])
        mean = statistics.fmean(j.reward for j in judgements)
        progress.update(len(judgements), {"mean reward": f"{mean:+.3f}"})
    progress.end(f"{len(rows)} pairs judged by {feedback.name}")
    weights = {g.name: 0.0 for g in feedback.gates} | {c.name: c.weight for c in feedback.components}
    ordered = [c.name for c in feedback.components] + [g.name for g in feedback.gates]
    return Ranked(tuple(rows), tuple(judgements), {name: weights[name] for name in ordered}, feedback.offset)


def check_writable(path: Path) -> None:
    """Raises UsageError where a file can't be written there, before hours are spent on what it should hold."""
    if path.is_dir():
        raise UsageError(f"--out {path} is a folder; name a file")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"--out {path}: the folder {path.absolute().parent} is not there; make it first")


def _share_of_variance(part: Sequence[float], whole: Sequence[float]) -> float | None:
    variance = statistics.pvariance(whole)
    if variance < 1e-18:
        return None
    return _covariance(part, whole) / variance


def _correlation(one: Sequence[float], other: Sequence[float]) -> float | None:
    scale = statistics.pstdev(one) * statistics.pstdev(other)
    return None if scale < 1e-12 else max(-1.0, min(1.0, _covariance(one, other) / scale))


def _covariance(one: Sequence[float], other: Sequence[float]) -> float:
    a, b = statistics.fmean(one), statistics.fmean(other)
    return statistics.fmean((x - a) * (y - b) for x, y in zip(one, other, strict=True))
