"""How sure a mean difference is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


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
