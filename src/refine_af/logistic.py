"""Logistic regression on a few hundred rows: whether something belongs to a kind, learned from examples of both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Of the weights' squares. On the embeddings of the built-in seeds' instructions, ten-fold, the area under the ROC curve
# is the same from 0.03 to 0.3 and falls beyond.
_RIDGE = 0.1
_MOST_STEPS = 100


@dataclass(frozen=True, slots=True)
class Logistic:
    """P(yes) of a row x is 1 / (1 + exp(-(x · weights + bias)))."""

    weights: Floats  # (d,)
    bias: float

    def probabilities(self, rows: NDArray[np.floating]) -> Floats:
        """(n,) out of rows (n, d)."""
        return 1.0 / (1.0 + np.exp(-(rows.astype(np.float64) @ self.weights + self.bias)))


def fitted(rows: NDArray[np.floating], labels: NDArray[np.bool_]) -> Logistic:
    """Fits rows (n, d) to labels (n,) by Newton's method, with a ridge on the weights and none on the bias.

    Raises ValueError where the labels are all the same: then there is nothing to tell apart.
    """
    if labels.all() or not labels.any():
        raise ValueError("all labels are the same")
    wide = np.column_stack([rows.astype(np.float64), np.ones(len(rows))])
    ridge = np.append(np.full(rows.shape[1], _RIDGE), 1e-9)
    found = np.zeros(wide.shape[1])
    for _ in range(_MOST_STEPS):
        chances = 1.0 / (1.0 + np.exp(-wide @ found))
        slope = wide.T @ (chances - labels) + ridge * found
        curvature = (wide.T * (chances * (1.0 - chances))) @ wide + np.diag(ridge)
        step = np.linalg.solve(curvature, slope)
        found -= step
        if np.abs(step).max() < 1e-8:
            break
    return Logistic(found[:-1], float(found[-1]))
