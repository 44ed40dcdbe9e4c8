"""Promises of the table of signatures: every text stands in its bucket, and what is named often enough is found."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refine_af.novelty import signatures
from refine_af.novelty.signatures import _named_often, _Postings, spans


@pytest.mark.parametrize("bits", [1, 7, 16, 17, 20])
def test_every_text_stands_in_its_buckets_and_no_other(bits: int) -> None:
    choose = np.random.default_rng(bits)
    postings = _Postings(bits)
    expected: list[tuple[int, int]] = []
    first = 0
    for texts, each in [(1, 1), (500, 28), (3, 0), (70, 120)]:
        buckets = choose.integers(0, 1 << bits, (each, texts))
        buckets[: each // 2] >>= bits // 2  # some are full
        postings.add(buckets, first)
        expected += [(int(buckets[i, t]), first + t) for i in range(each) for t in range(texts)]
        first += texts
    texts, begins = postings.by_bucket()
    assert len(begins) == (1 << bits) + 1
    found = zip(np.arange(1 << bits).repeat(np.diff(begins)).tolist(), texts.tolist(), strict=True)
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize("counters_for_each", [0, 10_000])
@given(places=st.lists(st.integers(0, 30), max_size=60), times=st.integers(1, 5))
def test_what_is_named_often_is_found_by_counting_and_by_sorting(
    counters_for_each: int, places: list[int], times: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(signatures, "_COUNTED_PLACES", counters_for_each)
        found = _named_often(np.array(places, np.uint32), times, 31)
    assert found.tolist() == sorted(place for place, count in Counter(places).items() if count >= times)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 6))))
def test_spans_are_the_ranges_one_after_another(ranges: list[tuple[int, int]]) -> None:
    starts, lengths = np.array(ranges, np.int64).reshape(-1, 2).T
    assert spans(starts, lengths).tolist() == [start + i for start, length in ranges for i in range(length)]
