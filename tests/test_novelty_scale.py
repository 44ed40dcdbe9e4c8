"""Promises of the index as it grows: whatever it prunes, it decides as a comparison with every text would."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score import rouge_scorer

from refine_af.novelty import NoveltyIndex, bounds, index, rouge_l, tokens
from refine_af.novelty.bounds import Bounds
from refine_af.novelty.rouge import f_measure

_OFFICIAL = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)

# Few words, so that ties, repeated words and scores at the threshold are common.
_WORDS = ["a", "b", "c", "D", "e", "the", "7"]
texts = st.integers(1, len(_WORDS)).flatmap(
    lambda kinds: st.lists(st.sampled_from([*_WORDS[:kinds], "a!"]), max_size=11).map(" ".join)
)
thresholds = st.sampled_from([0.05, 0.25, 0.4, 0.5, 0.6, 2 / 3, 0.7, 0.75, 0.8, 6 / 7, 0.9, 1.0])


@pytest.fixture(autouse=True)
def _tables_from_the_second_text_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small indexes would otherwise look at each of their texts and never need a table."""
    monkeypatch.setattr(index, "_NEWEST", 1)
    monkeypatch.setattr(index, "_FEW", 1)
    monkeypatch.setattr(index, "_FIRST", 2)


def expected(kept: list[str], new: str, floor: float) -> tuple[float, str] | None:
    scores = [float(_OFFICIAL.score(text, new)["rougeL"].fmeasure) for text in kept]
    best = max(scores, default=0.0)
    return (best, str(scores.index(best))) if best > floor else None


@pytest.mark.parametrize(("longest_pairs", "singles"), [(16, 4), (3, 4), (0, 1), (5, 2)])
def test_ten_thousand_decisions_are_those_of_rouge_score(
    monkeypatch: pytest.MonkeyPatch, longest_pairs: int, singles: int
) -> None:
    monkeypatch.setattr(bounds, "LONGEST_PAIRED_PREFIX", longest_pairs)
    monkeypatch.setattr(bounds, "SHARED_SINGLES", singles)

    @settings(max_examples=320, deadline=None)
    @given(st.lists(texts, max_size=8), st.lists(texts, min_size=8, max_size=8), thresholds)
    def decide(kept: list[str], new: list[str], threshold: float) -> None:
        pool = NoveltyIndex(threshold)
        pool.add_many(kept)
        for text in new:  # 4 x 320 x 8 decisions
            assert pool.nearest(text) == expected(kept, text, threshold)
            assert pool.closest(text) == expected(kept, text, 0.0)

    decide()


@settings(max_examples=150, deadline=None)
@given(st.lists(texts, max_size=12), thresholds)
def test_extending_decides_in_order_as_asking_and_adding_one_by_one_does(new: list[str], threshold: float) -> None:
    kept: list[tuple[str, str]] = []
    decided = []
    for place, text in enumerate(new):
        found = expected([t for t, _ in kept], text, threshold)
        decided.append(found and (found[0], kept[int(found[1])][1]))
        if found is None:
            kept.append((text, f"row {place}"))
    pool = NoveltyIndex(threshold)
    assert pool.extend_if_novel(new, [f"row {place}" for place in range(len(new))]) == decided
    assert len(pool) == len(kept)
    assert all(id in pool for _, id in kept)


@pytest.mark.parametrize("how", ["one by one", "at once", "at once, with arrays"])
def test_a_pool_of_thousands_decides_as_brute_force_does(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    choose = random.Random(3)
    vocabulary = [f"w{min(int(choose.paretovariate(0.6)), 400)}" for _ in range(2000)]
    lengths = [1, 2, 3, 5, 8, 13, 21, 34, 55, 89]
    kept = [" ".join(choose.choices(vocabulary, k=choose.choice(lengths))) for _ in range(1500)]
    pool = NoveltyIndex(0.7)
    if how == "one by one":
        for text in kept:
            pool.add(text)
    else:
        monkeypatch.setattr(index, "_MANY", 1 if how.endswith("arrays") else 1 << 30)
        pool.add_many(kept)
    sequences = [tokens(text) for text in kept]
    repeated = 0
    for _ in range(150):
        words = choose.choice(kept).split()
        for _ in range(choose.randrange(1 + len(words) // 3)):
            words[choose.randrange(len(words))] = choose.choice(vocabulary)
        scores = [rouge_l(words, sequence) for sequence in sequences]
        best = max(scores)
        repeated += best > 0.7
        assert pool.nearest(" ".join(words)) == ((best, str(scores.index(best))) if best > 0.7 else None)
    assert repeated > 15


@pytest.mark.parametrize("threshold", [0.1, 0.5, 2 / 3, 0.7, 0.9, 1.0])
def test_the_bounds_are_those_of_trying_every_length(threshold: float) -> None:
    limits = Bounds(threshold)
    for a in range(1, 45):
        partners = limits.partners(a)
        able = [b for b in range(1, 1000) if f_measure(min(a, b), a, b) > threshold]
        assert list(range(partners.shortest, partners.longest + 1)) == able
        for b, need in zip(able, partners.need.tolist(), strict=True):
            assert need == next(n for n in range(1, a + 1) if f_measure(n, a, b) > threshold)


def test_texts_without_words_and_very_long_ones_go_together() -> None:
    pool = NoveltyIndex()
    long = " ".join(f"w{i % 700}" for i in range(2000))
    pool.add_many(["", "spam " * 2000, "…", long, "spam", ""])
    assert pool.nearest("spam " * 1900) == (pytest.approx(2 * 1900 / 3900), "1")
    assert pool.nearest("spam " * 1000) is None
    assert pool.nearest(long + " and more") == (pytest.approx(4000 / 4002), "3")
    assert pool.nearest("spam") == (1.0, "4")
    assert pool.nearest("") is None


def test_ids_are_known_whether_given_or_not() -> None:
    pool = NoveltyIndex()
    assert pool.add_many(["one", "two"], ["x", "y"]) == ["x", "y"]
    assert pool.add("three") == "2"
    assert ["x" in pool, "2" in pool, "0" in pool, "3" in pool, "02" in pool, 2 in pool] == [True, True] + [False] * 4
    with pytest.raises(ValueError, match="shorter"):
        pool.add_many(["four", "five"], ["only one"])
    assert pool.nearest("four") == (1.0, "only one")
