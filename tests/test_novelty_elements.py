"""Promises of reading texts at once: whatever the characters, the elements are those of reading them one by one."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from refine_af.novelty import NoveltyIndex, index, tokens
from refine_af.novelty.elements import Elements, labels

# Characters on which lower-casing, ASCII and the mark between texts could go wrong: the Kelvin sign and the dotted
# capital I become ASCII letters, the sigma looks at its neighbours, the sharp s and the ligature are longer elsewhere.
_ODD = "\0\n\r\t \x1f\x7f\x80\xa0aAzZ09_-?.İıKÅΣσςßẞﬀǅ\u0307\u2028\ud800\udfff日𝐀𝟗"
characters = st.one_of(st.sampled_from(_ODD), st.characters())
any_texts = st.lists(st.text(characters, max_size=25), max_size=8)
few_words = st.lists(st.lists(st.sampled_from(["a", "b", "A!", "the", "2", "b 2", "É"]), max_size=9).map(" ".join))


@pytest.fixture(autouse=True)
def _at_once_however_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "_MANY", 1)


def read(texts: Sequence[str], known: Elements) -> list[list[str]]:
    """The texts' elements by their labels, read at once."""
    if not texts:
        return []
    numbers, lengths = known.of_many(texts)
    assert len(numbers) == lengths.sum()
    label = list(known)
    of_all = [label[number] for number in numbers.tolist()]
    return [[of_all.pop(0) for _ in range(length)] for length in lengths.tolist()]


@settings(max_examples=1000, deadline=None)
@given(st.one_of(any_texts, few_words), st.one_of(any_texts, few_words))
@example([""], [])
@example(["", "\0", "a\0a", ""], ["a"])
@example(["ΑΣ", "ΑΣa", "Σ", "aΣ"], ["İstanbul 5K"])
@example(["word" * 100_000], ["word"])
def test_the_elements_are_the_labels_of_the_tokens(before: list[str], texts: list[str]) -> None:
    known = Elements()
    for text in before:
        known.of(text)
    assert read(texts, known) == [labels(tokens(text)) for text in texts]
    # Numbers go up from 0 without a gap, and each element knows its word's first occurrence.
    assert list(known.values()) == list(range(len(known)))
    assert [list(known)[first] for first in known.first] == [label.partition(" ")[0] for label in known]


@settings(deadline=None)
@given(st.one_of(any_texts, few_words).filter(bool))
def test_what_was_read_at_once_is_known_one_by_one(texts: list[str]) -> None:
    known = Elements()
    numbers, _ = known.of_many(texts)
    size = len(known)
    assert [n for text in texts for n in known.of(text)] == numbers.tolist()
    assert len(known) == size


def test_every_character_is_read_at_once_as_it_is_alone() -> None:
    texts = [f"a{chr(code)}b" for code in range(sys.maxunicode + 1)]
    assert read(texts[:0x3000], Elements()) == [tokens(text) for text in texts[:0x3000]]
    numbers, _ = (many := Elements()).of_many(texts)
    one_by_one = Elements()
    assert [n for text in texts for n in one_by_one.of(text)] == numbers.tolist()
    assert list(many) == list(one_by_one)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(few_words, any_texts), max_size=4), st.integers(1, 40))
def test_an_index_read_at_once_is_that_of_adding_one_by_one(batches: list[list[str]], characters: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index, "_READ_AT_ONCE", characters)
        many, single = NoveltyIndex(0.6), NoveltyIndex(0.6)
        for batch in batches:
            assert many.add_many(batch) == [single.add(text) for text in batch]
    texts = [text for batch in batches for text in batch]
    for text in texts:
        assert many.nearest(text) == single.nearest(text)
        assert many.closest(text) == single.closest(text)


@pytest.mark.parametrize("many", [1, 1 << 20])
def test_texts_before_a_fault_are_kept(monkeypatch: pytest.MonkeyPatch, many: int) -> None:
    monkeypatch.setattr(index, "_MANY", many)

    def source() -> Iterator[str]:
        yield from ["one two", "three four"]
        raise OSError("gone")

    pool = NoveltyIndex()
    with pytest.raises(OSError, match="gone"):
        pool.add_many(source())
    assert pool.nearest("three four") == (1.0, "1")
    with pytest.raises(TypeError):
        pool.add_many(["five six", 7], ["mine", "bad"])  # type: ignore[list-item]
    assert pool.nearest("five six") == (1.0, "mine")
    assert len(pool) == 3


@pytest.mark.parametrize("many", [1, 1 << 20])
def test_what_is_no_text_leaves_the_index_whole(monkeypatch: pytest.MonkeyPatch, many: int) -> None:
    monkeypatch.setattr(index, "_MANY", many)
    pool = NoveltyIndex()
    with pytest.raises((TypeError, AttributeError)):
        pool.add_many(["a", ["no", "text"]])  # type: ignore[list-item]
    assert pool.nearest("a b") is None
    name = pool.add("c d")
    assert pool.nearest("c d") == (1.0, name)
    assert pool.closest("c e") == (0.5, name)
