"""How sure a mean difference or a share of wins is: intervals and tests that need no resampling by levels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Interval = tuple[float, float]
_Z = 1.959963984540054  # the standard normal's 97.5 % point
_FEW = 50  # up to as many differences without ties Wilcoxon's p-value is counted, not approximated
_VERY_FEW = 13  # and up to as many with ties


@dataclass(frozen=True, slots=True)
class Difference:
    """A mean of paired differences with its 95 % interval."""

    mean: float
    low: float
    high: float


def paired_difference(before: Sequence[float], after: Sequence[float], *, seed: int = 0) -> Difference:
    """Mean of ``after - before`` with a percentile bootstrap interval over the pairs (10,000 resamples).

    Pairs should be independent: average repeated measurements of one unit first. Raises ValueError for unequal
    lengths or no pairs.
    """
    if len(before) != len(after) or not before:
        raise ValueError(f"need as many values before as after, and at least one: {len(before)}, {len(after)}")
    differences = np.asarray(after, dtype=float) - np.asarray(before, dtype=float)
    random = np.random.default_rng(seed)
    # (10000, N) indices in slices of 1,000, so that a large N needs little memory.
    means = np.concatenate(
        [differences[random.integers(0, len(differences), (1000, len(differences)))].mean(axis=1) for _ in range(10)]
    )
    low, high = np.percentile(means, [2.5, 97.5])
    return Difference(float(differences.mean()), float(low), float(high))


def wilson_interval(successes: int, count: int) -> Interval:
    """95 % interval of a share, in [0, 1] (Wilson 1927). Raises ValueError without 0 ≤ successes ≤ count, 1 ≤ count."""
    if count < 1 or not 0 <= successes <= count:
        raise ValueError(f"need 0 to {count} successes of at least one, not {successes}")
    share, z2 = successes / count, _Z * _Z
    centre = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = _Z / (1 + z2 / count) * math.sqrt(share * (1 - share) / count + z2 / (4 * count * count))
    # At the ends the interval reaches 0 and 1 exactly; rounding must not go beyond or fall short.
    return (max(0.0, centre - half) if successes else 0.0, min(1.0, centre + half) if successes < count else 1.0)


def sign_test(wins: int, losses: int) -> float:
    """Two-sided exact p-value of as uneven a split under even chances (binomial); ties are to be left out. 1 for none.

    Raises ValueError for negative counts.
    """
    if min(wins, losses) < 0:
        raise ValueError(f"wins and losses can't be negative: {wins}, {losses}")
    count = wins + losses
    term = tail = 1  # binomial coefficients, as whole numbers: exact for any count
    for k in range(min(wins, losses)):
        term = term * (count - k) // (k + 1)
        tail += term
    return min(1.0, 2 * tail / 2**count)


def wilcoxon_test(differences: Sequence[float]) -> float:
    """Two-sided p-value of Wilcoxon's signed-rank test (1945): do differences lie evenly around zero? 1 for none.

    Zeros are dropped, equal sizes share their mean rank. The p-value is counted over all signs where there are at
    most 50 differences with neither ties nor zeros, or at most 13 in all; otherwise it is that of the normal
    approximation with the variance corrected for ties, without a correction for continuity. These are the defaults
    of ``scipy.stats.wilcoxon``.
    """
    values = np.asarray(differences, dtype=float)
    kept = values[values != 0]
    if not len(kept):
        return 1.0
    _, place, sizes = np.unique(np.abs(kept), return_inverse=True, return_counts=True)
    doubled = (2 * np.cumsum(sizes) - sizes + 1)[place]  # twice the mean rank: a whole number
    positive = int(doubled[kept > 0].sum())
    plain = len(kept) == len(values) and len(sizes) == len(kept)
    if len(values) <= (_FEW if plain else _VERY_FEW):
        return _counted_p(doubled, positive)
    n = len(kept)
    variance = n * (n + 1) * (2 * n + 1) / 24 - float((sizes.astype(float) ** 3 - sizes).sum()) / 48
    z = (positive / 2 - n * (n + 1) / 4) / math.sqrt(variance)
    return math.erfc(abs(z) / math.sqrt(2))


def _counted_p(ranks: npt.NDArray[np.int64], positive: int) -> float:
    """Twice the smaller tail of the sum of whole-numbered ``ranks`` that each count with probability 1/2."""
    chance = np.zeros(int(ranks.sum()) + 1)
    chance[0] = 1.0
    for rank in ranks:
        shifted = np.zeros_like(chance)
        shifted[rank:] = chance[: len(chance) - rank]
        chance = (chance + shifted) / 2
    return min(1.0, 2 * float(min(chance[: positive + 1].sum(), chance[positive:].sum())))
