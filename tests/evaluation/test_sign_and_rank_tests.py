"""Promises of the tests and of Wilson's interval: the numbers of scipy, and of each other."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from refine_af.evaluation.significance import sign_test, wilcoxon_test, wilson_interval

counts = st.integers(0, 400)
smooth = st.lists(st.floats(-50, 50, allow_subnormal=False).filter(lambda x: abs(x) > 1e-6), min_size=1, max_size=120)
# Not under 14: there scipy goes through all signs of each, which takes seconds; a test below does so for a few.
coarse = st.lists(st.integers(-6, 6).map(float), min_size=14, max_size=120).filter(any)


@given(counts, counts)
def test_wilsons_interval_is_scipys(wins: int, losses: int) -> None:
    if wins + losses:
        expected = stats.binomtest(wins, wins + losses).proportion_ci(0.95, method="wilson")
        assert wilson_interval(wins, wins + losses) == pytest.approx((expected.low, expected.high), abs=1e-12)


@given(counts, counts)
def test_the_sign_test_is_scipys_binomial_test(wins: int, losses: int) -> None:
    expected = stats.binomtest(wins, wins + losses, 0.5).pvalue if wins + losses else 1.0
    assert sign_test(wins, losses) == pytest.approx(expected, rel=1e-9)


@settings(max_examples=150)
@given(st.one_of(smooth.filter(lambda values: len(set(map(abs, values))) == len(values)), coarse))
def test_wilcoxons_test_is_scipys(differences: list[float]) -> None:
    assert wilcoxon_test(differences) == pytest.approx(stats.wilcoxon(differences).pvalue, rel=1e-9, abs=1e-300)


@pytest.mark.parametrize("size", [1, 2, 5, 10, 13, 14, 49, 50, 51, 119])
@pytest.mark.parametrize("kind", ["plain", "zeros", "ties"])
def test_wilcoxons_test_is_scipys_where_the_way_of_counting_changes(size: int, kind: str) -> None:
    values = np.random.default_rng(size).normal(0.3, 2.0, size)
    if kind == "zeros":
        values[: size // 3] = 0.0
    if kind == "ties":
        values = np.round(values) + 0.5
    assert wilcoxon_test(values.tolist()) == pytest.approx(stats.wilcoxon(values).pvalue, rel=1e-9)


def test_wilcoxons_p_value_of_few_differences_is_the_share_of_signs_that_are_as_extreme() -> None:
    values, ranks = [1.0, 1.0, -2.0, 4.0, 4.0, 4.0, 9.0], [1.5, 1.5, 3.0, 5.0, 5.0, 5.0, 7.0]
    seen = sum(rank for rank, value in zip(ranks, values, strict=True) if value > 0)
    sums = [sum(itertools.compress(ranks, signs)) for signs in itertools.product((0, 1), repeat=7)]
    assert wilcoxon_test(values) == pytest.approx(2 * sum(s >= seen for s in sums) / len(sums))


def test_nothing_decided_is_no_evidence() -> None:
    assert sign_test(0, 0) == 1.0
    assert wilcoxon_test([]) == wilcoxon_test([0.0, 0.0]) == 1.0


def test_swapping_the_sides_changes_no_p_value() -> None:
    values = np.random.default_rng(1).normal(0.4, 1.0, 70)
    assert wilcoxon_test(values.tolist()) == pytest.approx(wilcoxon_test((-values).tolist()), rel=1e-12)
    assert sign_test(31, 12) == sign_test(12, 31)


def test_where_the_sign_test_decides_wilsons_interval_excludes_a_half() -> None:
    for count in [*range(1, 200), 500, 1000]:
        for wins in range(count + 1):
            if sign_test(wins, count - wins) < 0.05:
                low, high = wilson_interval(wins, count)
                assert high < 0.5 or low > 0.5, (wins, count)


def test_five_decided_tasks_can_never_decide_and_six_can() -> None:
    assert sign_test(5, 0) > 0.05 > sign_test(6, 0)


@pytest.mark.parametrize(("wins", "count"), [(0, 0), (-1, 5), (6, 5)])
def test_a_share_of_nothing_is_refused(wins: int, count: int) -> None:
    with pytest.raises(ValueError, match="need"):
        wilson_interval(wins, count)


def test_negative_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        sign_test(-1, 3)
