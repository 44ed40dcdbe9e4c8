"""Promises of novelty in other languages than English: the index decides as a comparison with every text would."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refine_af.language import Language
from refine_af.novelty import NoveltyIndex, bounds, index, rouge_l
from refine_af.novelty.elements import Elements, labels

LANGUAGES = st.sampled_from([Language(code) for code in ("en", "zh", "tr")])
# Few words of many scripts, so that ties, repeated words and scores at the threshold are common.
_PIECES = [
    "写",
    "一",
    "诗",
    "。",
    "a ",
    "Ä ",
    "Ä ",
    "ß ",
    "ss ",
    "हि ",
    "हिन्दी ",
    "ที่",
    "ก",
    "дом ",
    "I ",
    "ı ",
    "3 ",
    "３ ",
    "😀",
]
texts = st.integers(2, len(_PIECES)).flatmap(
    lambda kinds: st.lists(st.sampled_from(_PIECES[:kinds]), max_size=12).map("".join)
)
any_texts = st.lists(st.one_of(texts, st.text(max_size=15)), max_size=8)


@pytest.fixture(autouse=True)
def _tables_and_arrays_from_the_second_text_on(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("_NEWEST", 1), ("_FEW", 1), ("_FIRST", 2), ("_MANY", 1)):
        monkeypatch.setattr(index, name, value)


def expected(kept: list[str], new: str, floor: float, language: Language) -> tuple[float, str] | None:
    scores = [rouge_l(language.tokens(text), language.tokens(new)) for text in kept]
    best = max(scores, default=0.0)
    return (best, str(scores.index(best))) if best > floor else None


@pytest.mark.parametrize(("longest_pairs", "singles"), [(16, 4), (3, 4), (0, 1)])
def test_decisions_are_those_of_comparing_with_every_text(
    monkeypatch: pytest.MonkeyPatch, longest_pairs: int, singles: int
) -> None:
    monkeypatch.setattr(bounds, "LONGEST_PAIRED_PREFIX", longest_pairs)
    monkeypatch.setattr(bounds, "SHARED_SINGLES", singles)

    @settings(max_examples=150)
    @given(
        st.lists(texts, max_size=8), st.lists(texts, max_size=6), st.sampled_from([0.25, 0.5, 0.7, 0.8, 1.0]), LANGUAGES
    )
    def decide(kept: list[str], new: list[str], threshold: float, language: Language) -> None:
        pool = NoveltyIndex(threshold, language)
        pool.add_many(kept)
        for text in new:
            assert pool.nearest(text) == expected(kept, text, threshold, language)
            assert pool.closest(text) == expected(kept, text, 0.0, language)

    decide()


@settings(max_examples=200)
@given(any_texts.filter(bool), LANGUAGES)
def test_texts_read_at_once_have_the_elements_of_texts_read_one_by_one(some: list[str], language: Language) -> None:
    at_once, one_by_one = Elements(language), Elements(language)
    numbers, lengths = at_once.of_many(some)
    label = list(at_once)
    assert [label[n] for n in numbers.tolist()] == [w for text in some for w in labels(language.tokens(text))]
    assert lengths.tolist() == [len(one_by_one.of(text)) for text in some]


@given(texts, texts, LANGUAGES)
def test_scores_are_symmetric_and_a_text_with_a_word_is_one_to_itself(a: str, b: str, language: Language) -> None:
    one, other = language.tokens(a), language.tokens(b)
    assert rouge_l(one, other) == rouge_l(other, one)
    assert rouge_l(one, one) == float(bool(one))


def test_chinese_rows_repeat_by_what_they_say_and_not_by_a_latin_word() -> None:
    pool = NoveltyIndex(0.7, Language("zh"))
    found = pool.extend_if_novel(
        ["用Python写一个排序函数。", "解释Python的历史。", "推荐三本Python入门书。", "用python写一个排序函数！"]
    )
    assert found == [None, None, None, (1.0, "0")]
