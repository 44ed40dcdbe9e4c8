"""Promises of the logistic regression: the optimum of its own objective, and an answer for every row."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from refine_af.logistic import Logistic, fitted

RIDGE = 0.1


def some_rows(seed: int, count: int = 40, width: int = 5) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    rows = draw.normal(size=(count, width))
    labels = rows @ draw.normal(size=width) + draw.normal(size=count) > 0.3
    labels[:2] = True, False  # of both kinds, whatever was drawn
    return rows, labels


def loss(found: np.ndarray, rows: np.ndarray, labels: np.ndarray) -> float:
    """The negative log-likelihood with half the ridge on the weights' squares, and nothing on the bias."""
    logits = rows @ found[:-1] + found[-1]
    return float(np.logaddexp(0, np.where(labels, -logits, logits)).sum() + RIDGE / 2 * (found[:-1] ** 2).sum())


@pytest.mark.parametrize("seed", range(4))
def test_the_fit_is_what_a_general_minimiser_finds(seed: int) -> None:
    rows, labels = some_rows(seed)
    found = minimize(loss, np.zeros(rows.shape[1] + 1), (rows, labels), tol=1e-10).x
    learned = fitted(rows, labels)
    assert learned.weights == pytest.approx(found[:-1], abs=1e-3)
    assert learned.bias == pytest.approx(found[-1], abs=1e-3)
    expected = 1 / (1 + np.exp(-(rows @ found[:-1] + found[-1])))
    assert learned.probabilities(rows) == pytest.approx(expected, abs=1e-3)


def test_without_anything_to_go_by_the_answer_is_the_share_of_yes() -> None:
    learned = fitted(np.zeros((8, 3)), np.array([True] * 2 + [False] * 6))
    assert learned.probabilities(np.zeros((1, 3))) == pytest.approx(np.array([0.25]))


def test_rows_that_a_plane_parts_are_told_apart_with_finite_weights() -> None:
    rows = np.array([[-2.0], [-1.0], [1.0], [2.0]])
    learned = fitted(rows, np.array([False, False, True, True]))
    assert np.isfinite(learned.weights).all()
    assert list(learned.probabilities(rows) > 0.5) == [False, False, True, True]


def test_the_embeddings_precision_is_enough() -> None:
    rows, labels = some_rows(0)
    rough, exact = fitted(rows.astype(np.float32), labels), fitted(rows, labels)
    assert rough.weights == pytest.approx(exact.weights, abs=1e-4)
    assert rough.weights.dtype == np.float64


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=4), st.floats(-5, 5))
def test_a_probability_and_that_of_the_opposite_are_one(weights: list[float], bias: float) -> None:
    row = np.ones((1, len(weights)))
    (one,) = Logistic(np.array(weights), bias).probabilities(row)
    (other,) = Logistic(-np.array(weights), -bias).probabilities(row)
    assert 0 <= one <= 1
    assert one + other == pytest.approx(1)


@pytest.mark.parametrize("label", [True, False])
def test_labels_of_one_kind_are_refused(label: bool) -> None:
    with pytest.raises(ValueError, match="all labels are the same"):
        fitted(np.zeros((3, 2)), np.array([label] * 3))
