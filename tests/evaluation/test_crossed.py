"""Intervals over tasks and policies at once, against scipy and against what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from refine_af.evaluation.crossed import crossed_difference, student_quantile


@pytest.mark.parametrize("degrees", [1, 1.3, 2, 2.7, 5, 30, 98, 1000, 1e5])
def test_the_quantile_is_students(degrees: float) -> None:
    assert student_quantile(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), rel=1e-6)


def test_one_policy_gives_the_interval_over_tasks() -> None:
    row = np.random.default_rng(0).normal(0.2, 1.0, 40)
    found = crossed_difference([row])
    low, high = stats.t.interval(0.95, 39, row.mean(), stats.sem(row))
    assert (found.mean, found.low, found.high) == pytest.approx((row.mean(), low, high))


@pytest.mark.parametrize(
    ("policy", "task", "rest"), [(0.5, 1.0, 0.5), (0.0, 1.0, 1.0), (1.0, 0.0, 0.3), (0.0, 0.0, 1.0)]
)
def test_the_interval_holds_the_truth_about_as_often_as_it_says(policy: float, task: float, rest: float) -> None:
    """Three policies and forty tasks, drawn anew each time. Where the rest is most of it the interval is too wide."""
    random, held, draws = np.random.default_rng(1), 0, 1500
    for _ in range(draws):
        values = random.normal(0, policy, (3, 1)) + random.normal(0, task, (1, 40)) + random.normal(0, rest, (3, 40))
        found = crossed_difference(values)
        held += found.low <= 0 <= found.high
    assert 0.93 <= held / draws <= 0.995


def test_policies_that_disagree_widen_it() -> None:
    tasks = np.random.default_rng(2).normal(0.3, 0.2, 50)
    alike, unlike = [tasks, tasks + 0.01, tasks - 0.01], [tasks, tasks + 0.5, tasks - 0.5]
    narrow, wide = crossed_difference(alike), crossed_difference(unlike)
    assert narrow.low > 0 > wide.low
    assert narrow.mean == pytest.approx(wide.mean)


@given(
    st.lists(st.lists(st.floats(-5, 5), min_size=4, max_size=4), min_size=1, max_size=4),
    st.floats(-3, 3),
)
@settings(max_examples=200, deadline=None)
def test_it_moves_with_the_values_and_holds_their_mean(rows: list[list[float]], by: float) -> None:
    found, moved = crossed_difference(rows), crossed_difference([[v + by for v in row] for row in rows])
    assert found.low <= found.mean <= found.high
    assert (moved.mean - by, moved.high - moved.low) == pytest.approx((found.mean, found.high - found.low), abs=1e-6)


def test_equal_values_leave_no_doubt_and_too_few_none() -> None:
    found = crossed_difference([[0.2, 0.2], [0.2, 0.2]])
    assert (found.low, found.high) == pytest.approx((0.2, 0.2))
    with pytest.raises(ValueError, match="two or more"):
        crossed_difference([[0.1], [0.2]])
