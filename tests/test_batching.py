"""Promises of the scorers' batches: every row once, none too large, little padding."""

from __future__ import annotations

import random
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refine_af.batching import _ROW_OF_A_STEP, _STEP, alike, cheapest_batches, padded_batches


def padding(lengths: list[int], batches: list[list[int]]) -> float:
    computed = sum(len(batch) * max(lengths[i] for i in batch) for batch in batches)
    return 1 - sum(lengths) / computed


@given(st.lists(st.integers(0, 300), max_size=60), st.integers(1, 9))
def test_every_row_is_in_one_batch_of_the_size_at_most_and_no_batch_is_padding_by_more_than_15_percent(
    lengths: list[int], size: int
) -> None:
    batches = list(alike(lengths, size))
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    assert all(0 < len(batch) <= size for batch in batches)
    for batch in batches:
        widest = max(lengths[i] for i in batch)
        assert sum(widest - lengths[i] for i in batch) <= 0.15 * widest * len(batch)


@pytest.mark.parametrize("size", [8, 32, 128])
def test_padding_stays_small_and_batches_full_on_lengths_as_answers_have_them(size: int) -> None:
    draw = random.Random(0)
    # Log-normal with a median of 55 tokens, as instruction data have it: many short answers, a long tail to 512.
    lengths = [max(4, min(512, round(draw.lognormvariate(4.0, 0.9)))) for _ in range(2000)]
    batches = list(alike(lengths, size))
    assert padding(lengths, batches) < 0.15
    assert len(batches) < 1.3 * len(lengths) / size + 25


def test_the_longest_rows_come_first() -> None:
    assert list(alike([1, 10, 9, 10], 2)) == [[1, 3], [2], [0]]


def test_rows_are_padded_on_the_right_and_masked() -> None:
    pytest.importorskip("torch")
    rows = [[1], [1, 2, 3, 4], [4, 5, 6]]
    batches = [(places, ids.tolist(), mask.tolist()) for places, ids, mask in padded_batches(rows, 2, 9, "cpu")]
    assert batches == [
        ([1, 2], [[1, 2, 3, 4], [4, 5, 6, 9]], [[1, 1, 1, 1], [1, 1, 1, 0]]),
        ([0], [[1]], [[1]]),
    ]
    assert list(padded_batches([], 2, 9, "cpu")) == []


@given(st.lists(st.integers(1, 60), min_size=1, max_size=9), st.integers(1, 9))
def test_the_cheapest_batches_are_no_dearer_than_any_cut_of_the_sorted_prompts(lengths: list[int], size: int) -> None:
    batches = cheapest_batches(lengths, size, 20)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    assert all(1 <= len(batch) <= size for batch in batches)
    ordered = sorted(lengths)
    assert [lengths[i] for batch in batches for i in batch] == ordered
    cost = sum(_cost([lengths[i] for i in batch], 20) for batch in batches)
    for cuts in product([False, True], repeat=len(ordered) - 1):
        parts: list[list[int]] = [[]]
        for value, cut in zip(ordered, [False, *cuts], strict=True):
            parts += [[]] if cut else []
            parts[-1].append(value)
        if all(len(part) <= size for part in parts):
            assert cost <= sum(_cost(part, 20) for part in parts) + 1e-6


def _cost(lengths: list[int], decoded: int) -> float:
    steps = max(lengths) - min(lengths) + decoded
    return len(lengths) * min(lengths) + steps * (_STEP + _ROW_OF_A_STEP * len(lengths))
