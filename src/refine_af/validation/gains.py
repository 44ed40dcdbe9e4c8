"""What an arm's students have over the control's: figure by figure, with intervals over the units that were asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean

from refine_af.evaluation.references import FIGURES, Measured
from refine_af.evaluation.significance import paired_difference


@dataclass(frozen=True, slots=True)
class Gain:
    """Over the control, the mean over units, in nats, with its 95 % interval (percentile bootstrap over units, 10,000
    resamples); ``won`` and ``lost`` count units. Of ``loss`` less is better."""

    mean: float
    low: float
    high: float
    won: int
    lost: int

    def __str__(self) -> str:
        return f"{self.mean:+.3f} ({self.low:.3f} to {self.high:.3f}) {self.won}:{self.lost}"


def gains(control: Sequence[Measured], arm: Sequence[Measured], seed: int = 0) -> dict[str, Gain]:
    """Of each figure, out of each unit's mean over the students."""
    found = {}
    for figure in FIGURES:
        before, after = by_unit(control, figure), by_unit(arm, figure)
        better = -1 if figure == "loss" else 1
        changes = [better * (a - b) for a, b in zip(after, before, strict=True)]
        won, lost = sum(c > 0 for c in changes), sum(c < 0 for c in changes)
        found[figure] = Gain(**asdict(paired_difference(before, after, seed=seed)), won=won, lost=lost)
    return found


def by_unit(students: Sequence[Measured], figure: str) -> list[float]:
    return [fmean(one[unit][figure] for one in students) for unit in students[0]]
