"""Promises of the area under the ROC curve."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from refine_af.evaluation.ranking import auc

values = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=12)


@given(values, values)
def test_it_is_the_share_of_pairs_in_the_right_order(better: list[float], worse: list[float]) -> None:
    wins = sum(1.0 if b > w else 0.5 if b == w else 0.0 for b in better for w in worse)
    assert math.isclose(auc(better, worse), wins / (len(better) * len(worse)))


def test_without_one_of_the_groups_it_is_unknown() -> None:
    assert math.isnan(auc([], [1.0]))
    assert math.isnan(auc([1.0], []))
