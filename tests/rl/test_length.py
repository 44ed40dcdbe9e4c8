"""What is taken off a reward for the length of answers, and what is left of it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refine_af.stages.length import Sized, length_slope

sized = st.tuples(st.integers(1, 80), st.floats(-3, 3))
groups = st.lists(st.lists(sized, min_size=1, max_size=5), min_size=1, max_size=6)


def differ(found: list[list[Sized]]) -> bool:
    return any(len({words for words, _ in group}) > 1 for group in found)


@given(groups, st.floats(-2, 2))
def test_what_is_paid_for_length_alone_is_found_whatever_else_is_paid(found: list[list[Sized]], more: float) -> None:
    longer_pays = [[(words, reward + more * math.log1p(words)) for words, reward in group] for group in found]
    change = length_slope(longer_pays) - length_slope(found)
    assert change == pytest.approx(more if differ(found) else 0.0, abs=1e-6)


@given(groups, st.lists(st.floats(-3, 3), min_size=6, max_size=6))
def test_that_some_tasks_are_paid_more_is_not_taken_for_length(found: list[list[Sized]], levels: list[float]) -> None:
    moved = [[(words, reward + level) for words, reward in group] for group, level in zip(found, levels, strict=False)]
    assert length_slope(moved) == pytest.approx(length_slope(found), abs=1e-6)


def test_where_all_answers_to_a_task_are_equally_long_nothing_is_known_of_length() -> None:
    assert length_slope([]) == 0.0
    assert length_slope([[(3, 1.0), (3, 2.0)], [(9, 5.0)]]) == 0.0
