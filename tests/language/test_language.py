"""Promises of languages: codes are taken as people write them, English is read as it always was, and a text that a
tokenisation can't see is told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refine_af.language import ENGLISH, Language, unseen_note
from refine_af.language.coverage import unseen_share
from refine_af.language.official import tokens

CHINESE = Language("zh")


@pytest.mark.parametrize("code", ["en", "EN", "eng", "en-GB", "en_US"])
def test_english_has_the_tokens_of_published_scores(code: str) -> None:
    language = Language(code)
    assert language.is_english
    assert language.tokens is tokens
    assert language.tokenization == "rouge-score"


@pytest.mark.parametrize(
    ("code", "tokenization"),
    [
        ("zh", "unicode"),
        ("zh-Hant-TW", "unicode"),
        ("mul", "unicode"),
        ("tr", "unicode, dotted i"),
        ("AZ", "unicode, dotted i"),
    ],
)
def test_other_languages_are_read_by_unicode(code: str, tokenization: str) -> None:
    assert Language(code).tokenization == tokenization
    assert not Language(code).is_english


@pytest.mark.parametrize("code", ["", "e", "english", "zh cn", "中文", "zh-", "1a"])
def test_what_is_no_code_is_refused(code: str) -> None:
    with pytest.raises(ValueError, match="code was expected"):
        Language(code)


@given(st.text(max_size=30))
def test_english_counts_what_white_space_separates(text: str) -> None:
    assert ENGLISH.count(text) == len(text.split()) == len(ENGLISH.word_ends(text))
    assert ENGLISH.amount(tokens(text)) == len(tokens(text))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("便宜，便宜，便宜。", "便宜"),
        ("哈哈哈", None),
        ("дом Дом ДОМ", "дом"),
        ("किकिकि", None),
        ("नमक, नमक, नमक", "नमक"),
        ("काकीकू", None),
    ],
)
def test_a_word_three_times_in_a_row_is_found_in_any_script(text: str, said: str | None) -> None:
    assert CHINESE.said_thrice(text) == said


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("Write a poem.", 0, 0),
        ("Élan vital, naïveté et café crème", 0.1, 0.2),
        ("Schreibe ein schönes Gedicht über den Regen für große Leute", 0.05, 0.1),
        ("用Python写一个排序函数", 0.5, 0.7),
        ("Напиши", 1, 1),
        ("हिन्दी", 1, 1),
        ("١٢٣", 1, 1),
        ("!? …", 0, 0),
    ],
)
def test_the_share_of_letters_that_english_leaves_out(text: str, low: float, high: float) -> None:
    assert low <= unseen_share([text]) <= high


def test_texts_that_english_does_not_see_are_told_and_no_others() -> None:
    note = unseen_note(["Write a poem.", "Напиши стихотворение о дожде"], "f.jsonl", ENGLISH, "--language")
    assert note is not None
    assert "f.jsonl" in note
    assert "--language" in note
    assert unseen_note(["Write a poem.", "Élan"], "f.jsonl", ENGLISH, "--language") is None
    assert unseen_note(["Напиши"], "f.jsonl", Language("ru"), "--language") is None
