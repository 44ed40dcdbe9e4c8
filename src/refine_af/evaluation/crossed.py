"""A mean difference where both tasks and trained policies are a sample: each policy is measured on each task."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from refine_af.evaluation.significance import Difference

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)


def crossed_difference(differences: Sequence[Sequence[float]]) -> Difference:
    """The mean over policies (rows) and tasks (columns) with its 95 % interval.

    A difference is taken for the sum of a mean, an effect of the policy, one of the task, and the rest, each drawn by
    itself. The mean's variance is then at most (MS_policies + MS_tasks) / (rows · columns): by the rest's mean square
    too large, but without the leaps of an estimate that takes it off. The interval is Student's with the degrees of
    freedom that Satterthwaite (1946, Biometrics Bulletin 2) gives a sum of mean squares, as in Clark's min F′ for
    subjects crossed with items (1973, Journal of Verbal Learning 12). One policy alone gives the interval over tasks.

    Raises ValueError for fewer than two tasks, and for rows of unequal lengths.
    """
    values = np.array(differences, dtype=float)  # (P, T)
    if values.ndim != 2 or values.shape[1] < 2:
        raise ValueError("each policy needs a row of the same tasks, two or more")
    policies, tasks = values.shape
    mean = float(values.mean())
    squares = [(policies * _squares(values.mean(axis=0), mean) / (tasks - 1), tasks - 1)]
    if policies > 1:
        squares.append((tasks * _squares(values.mean(axis=1), mean) / (policies - 1), policies - 1))
    total = sum(square for square, _ in squares)
    if total <= 0:  # all values are equal
        return Difference(mean, mean, mean)
    degrees = 1 / sum((square / total) ** 2 / free for square, free in squares)
    half = student_quantile(degrees) * math.sqrt(total / (policies * tasks))
    return Difference(mean, mean - half, mean + half)


def _squares(values: npt.NDArray[np.float64], mean: float) -> float:
    return float(((values - mean) ** 2).sum())


def student_quantile(degrees: float) -> float:
    """The 97.5 % point of Student's distribution, whose ``degrees`` of freedom may be any number from 1 on.

    With t = √ν tan θ its density in θ is Γ((ν + 1) / 2) / (√π Γ(ν / 2)) cos^(ν − 1) θ.
    """
    scale = math.exp(math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)) / math.sqrt(math.pi)
    low, high = 0.0, math.atan(13.0 / math.sqrt(degrees))  # 13 is beyond the point for one degree
    for _ in range(60):
        angle = (low + high) / 2
        inside = scale * angle / 2 * float((_WEIGHTS * np.cos(angle * (_NODES + 1) / 2) ** (degrees - 1)).sum())
        low, high = (angle, high) if inside < 0.475 else (low, angle)
    return math.sqrt(degrees) * math.tan(low)
