"""Promises of the interval: known answers, the right coverage, the same result for the same seed."""

from __future__ import annotations

import numpy as np
import pytest

from refine_af.evaluation.significance import Difference, paired_difference


def test_equal_differences_have_an_interval_of_a_point() -> None:
    assert paired_difference([1.0, 2.0, 5.0], [1.5, 2.5, 5.5]) == Difference(0.5, 0.5, 0.5)
    assert paired_difference([3.0], [3.0]) == Difference(0.0, 0.0, 0.0)


def test_the_mean_is_after_minus_before() -> None:
    assert paired_difference([1.0, 1.0], [2.0, 4.0]).mean == 2.0
    assert paired_difference([2.0, 4.0], [1.0, 1.0]).mean == -2.0


def test_two_values_have_the_interval_that_can_be_counted() -> None:
    # Means of two draws out of {0, 1}: 0, 0.5 and 1 with 1/4, 1/2 and 1/4, so that 2.5 % on each side reach 0 and 1.
    assert paired_difference([0.0, 0.0], [0.0, 1.0]) == Difference(0.5, 0.0, 1.0)


def test_many_values_have_nearly_the_normal_interval() -> None:
    values = np.random.default_rng(1).normal(0.3, 2.0, 400)
    found = paired_difference(np.zeros(400).tolist(), values.tolist())
    half = 1.96 * values.std() / 20
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.02)
    assert found.high == pytest.approx(values.mean() + half, abs=0.02)


def test_the_interval_holds_the_truth_about_95_times_in_100() -> None:
    random = np.random.default_rng(0)
    held, trials = 0, 200
    for trial in range(trials):
        before = random.normal(0, 3, 30)
        after = before + random.normal(1, 2, 30)
        found = paired_difference(before.tolist(), after.tolist(), seed=trial)
        held += found.low <= 1 <= found.high
    assert 0.90 <= held / trials <= 0.98


def test_the_pairing_takes_out_what_the_units_share() -> None:
    shared = np.random.default_rng(2).normal(0, 100, 50)
    found = paired_difference(shared.tolist(), (shared + 1).tolist())
    assert found.high - found.low < 1e-9


def test_the_interval_is_a_function_of_values_and_seed() -> None:
    before, after = [0.0] * 9, [1.37**i for i in range(9)]
    assert paired_difference(before, after, seed=3) == paired_difference(before, after, seed=3)
    found = [paired_difference(before, after, seed=s) for s in range(6)]
    assert len({(f.low, f.high) for f in found}) > 1
    assert len({f.mean for f in found}) == 1


@pytest.mark.parametrize(("before", "after"), [([], []), ([1.0], []), ([1.0, 2.0], [1.0])])
def test_unequal_or_no_values_are_refused(before: list[float], after: list[float]) -> None:
    with pytest.raises(ValueError, match="at least one"):
        paired_difference(before, after)
