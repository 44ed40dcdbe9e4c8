"""Promises of the novelty filter: the scores and decisions of `rouge-score`, the earliest of equals, exact bounds."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score import rouge_scorer

from refine_af.novelty import NoveltyIndex, rouge_l, tokens

_OFFICIAL = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)

words = st.sampled_from(["a", "the", "Cat", "cat", "dogs", "x1", "7", "naïve", "—", "日本", "co-op", "İ", ""])
texts = st.lists(words, max_size=12).map(" ".join)
thresholds = st.sampled_from([0.1, 0.25, 0.4, 0.5, 2 / 3, 0.7, 0.8, 0.9, 1.0])


def official(a: str, b: str) -> float:
    return float(_OFFICIAL.score(a, b)["rougeL"].fmeasure)


@given(texts, texts)
def test_rouge_l_is_that_of_rouge_score_bit_by_bit(a: str, b: str) -> None:
    assert rouge_l(tokens(a), tokens(b)) == official(a, b)


@given(st.text(max_size=30), st.text(max_size=30))
def test_rouge_l_is_that_of_rouge_score_on_any_text(a: str, b: str) -> None:
    assert rouge_l(tokens(a), tokens(b)) == official(a, b)


@given(texts, texts)
def test_rouge_l_is_symmetric_and_in_the_unit_interval(a: str, b: str) -> None:
    score = rouge_l(tokens(a), tokens(b))
    assert score == rouge_l(tokens(b), tokens(a))
    assert 0 <= score <= 1


@settings(max_examples=200, deadline=None)
@given(st.lists(texts, max_size=10), texts, thresholds)
def test_the_index_decides_as_a_comparison_with_every_text_would(kept: list[str], new: str, threshold: float) -> None:
    index = NoveltyIndex(threshold)
    index.add_many(kept)
    scores = [official(k, new) for k in kept]
    above = [s for s in scores if s > threshold]
    expected = (max(above), str(scores.index(max(above)))) if above else None
    assert index.nearest(new) == expected


@settings(max_examples=200, deadline=None)
@given(st.lists(texts, max_size=10), texts, thresholds)
def test_closest_is_the_best_of_all_texts_whatever_the_threshold(kept: list[str], new: str, threshold: float) -> None:
    index = NoveltyIndex(threshold)
    index.add_many(kept)
    scores = [official(k, new) for k in kept]
    best = max(scores, default=0.0)
    assert index.closest(new) == ((best, str(scores.index(best))) if best > 0 else None)


@settings(deadline=None)
@given(texts, texts)
def test_a_text_exactly_at_the_threshold_is_kept_and_one_just_above_is_not(a: str, b: str) -> None:
    score = official(a, b)
    if score == 0:
        return
    at, under = NoveltyIndex(score), NoveltyIndex(score * (1 - 1e-12))
    at.add(a)
    under.add(a)
    assert at.nearest(b) is None
    assert under.nearest(b) == (score, "0")


def test_seven_words_of_ten_are_exactly_the_default_threshold() -> None:
    index = NoveltyIndex()
    index.add("a b c d e f g h i j")
    assert index.nearest("a b c d e f g x y z") is None
    assert index.nearest("a b c d e f g h y z") == (pytest.approx(0.8), "0")


def test_of_several_equally_near_texts_the_earliest_is_named() -> None:
    index = NoveltyIndex()
    for id, text in [("far", "one two"), ("first", "alpha beta gamma"), ("second", "alpha beta gamma")]:
        index.add(text, id)
    assert index.nearest("alpha beta gamma") == (1.0, "first")
    # The same score at another length, met first or last: still the earliest.
    index = NoveltyIndex(0.1)
    index.add("a b", "two words")
    index.add("a a", "two other words")
    assert index.nearest("a c") == (0.5, "two words")


def test_an_id_is_the_given_one_or_the_place() -> None:
    index = NoveltyIndex()
    assert [index.add("one two"), index.add("three four", "mine"), index.add("five six")] == ["0", "mine", "2"]
    assert len(index) == 3


@pytest.mark.parametrize(
    ("kept", "new", "expected"),
    [
        ("", "", None),
        ("word", "", None),
        ("", "word", None),
        ("日本語 の 文", "日本語 の 文", None),  # no ASCII token, as rouge-score has it
        ("!?", "!?", None),
        ("word", "word", (1.0, "0")),
        ("word", "WORD!", (1.0, "0")),
        ("word", "other", None),
        ("Café au lait", "caf au lait", (1.0, "0")),
    ],
)
def test_empty_one_word_and_unicode_texts(kept: str, new: str, expected: tuple[float, str] | None) -> None:
    index = NoveltyIndex()
    index.add(kept)
    assert index.nearest(new) == expected


@settings(deadline=None)
@given(st.lists(texts, max_size=8), texts)
def test_asking_changes_nothing(kept: list[str], new: str) -> None:
    index = NoveltyIndex(0.5)
    index.add_many(kept)
    assert index.nearest(new) == index.nearest(new)
    assert len(index) == len(kept)


@pytest.mark.parametrize("threshold", [0, -0.1, 1.0001, float("nan")])
def test_a_threshold_outside_its_range_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold"):
        NoveltyIndex(threshold)


@given(st.text())
def test_tokens_are_lower_case_ascii_letters_and_digits(text: str) -> None:
    assert all(t and t.isascii() and t.isalnum() and t == t.lower() for t in tokens(text))
