"""Promises of the Unicode tokenisation: no script's letters are lost, and how a text is encoded changes nothing."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refine_af.language import unicode_words
from refine_af.language.unicode_words import folded, plain, tokens, word_ends

_ODD = "aZ09_-. \0\n\tÉßẞİıIσΣςﬀǅ№½ⅣàươệТ日本語カｶﾞがー々〇写，。ไทยำ์กี้កខ្ម្មិမြန်हिन्दीক্ষعَـ٣עִ한글각👍🏽❤️🇫🇷‍‌­\ud800𠀀𝐀\ue000"
odd_texts = st.text(st.one_of(st.sampled_from(_ODD), st.characters()), max_size=25)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("写一首关于雨的诗。", "写 一 首 关 于 雨 的 诗"),
        ("用Python写3个排序函数！", "用 python 写 3 个 排 序 函 数"),
        ("東京タワーへ行く、人々。", "東 京 タ ワ ー へ 行 く 人 々"),
        ("ｶﾞｲﾄﾞ", "ガ イ ド"),
        ("เขียนที่นี่ ๑๒ ข้อ", "เ ขี ย น ที่ นี่ ๑๒ ข้ อ"),
        ("ພາສາລາວ", "ພ າ ສ າ ລ າ ວ"),
        ("ខ្មែរ ១២", "ខ្ មែ រ ១២"),
        ("မြန်မာ", "မြ န် မာ"),
        ("हिन्दी में लिखो।", "हिन्दी में लिखो"),
        ("தமிழ் மொழி", "தமிழ் மொழி"),
        ("ক্ষুদ্র গল্প", "ক্ষুদ্র গল্প"),
        ("اكتب قصيدةً عن المطر؟", "اكتب قصيدةً عن المطر"),
        ("می‌خواهم", "میخواهم"),
        ("Напиши стихотворение о дожде", "напиши стихотворение о дожде"),
        ("Straße STRASSE ẞ", "strasse strasse ss"),
        ("ΟΔΟΣ οδός", "οδοσ οδόσ"),
        ("Tiếng Việt", "tiếng việt"),
        ("한국어 글쓰기", "한국어 글쓰기"),
        ("１２３ ＡＢＣ", "123 abc"),
        ("l'eau don't x_y", "l eau don t x y"),
        ("Wort\u00adteil", "wortteil"),
        ("👍🏽 good ❤️", "👍 good ❤"),
        ("… !? + = _", ""),
        ("", ""),
    ],
)
def test_words_of_many_scripts(text: str, expected: str) -> None:
    for form in ("NFC", "NFD"):
        found = tokens(unicodedata.normalize(form, text))
        assert [unicodedata.normalize("NFC", word) for word in found] == expected.split()


def test_the_two_letters_i_of_turkish_have_a_capital_each() -> None:
    assert tokens("ISPARTA İzmir ılık iyi", dots=True) == ["ısparta", "izmir", "ılık", "iyi"]
    assert tokens(unicodedata.normalize("NFD", "İZMİR"), dots=True) == ["izmir"]
    assert tokens("ISPARTA") == ["isparta"]


@given(odd_texts)
def test_a_text_has_the_same_words_however_it_is_encoded(text: str) -> None:
    expected = tokens(text)
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        assert tokens(unicodedata.normalize(form, text)) == expected  # type: ignore[arg-type]


@given(odd_texts)
def test_every_letter_and_digit_is_in_one_token_and_no_space_is(text: str) -> None:
    found = "".join(tokens(text))
    assert [ch for ch in found if ch.isalnum()] == [ch for ch in folded(text) if ch.isalnum()]
    assert not any(ch.isspace() for ch in found)


@given(odd_texts)
def test_words_are_read_again_as_they_are(text: str) -> None:
    assert tokens(" ".join(tokens(text))) == tokens(text)


@given(st.text(st.sampled_from("aBcéÉжЖöÖ写 カ1٣"), max_size=20))
def test_case_does_not_matter(text: str) -> None:
    assert tokens(text.upper()) == tokens(text.lower()) == tokens(text)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("巴黎。", "巴黎"),
        ("用 Python 写", "用Python写"),
        ("「雨」です！", "雨です"),
        ("¿Sí?", "sí"),
        ("«Да»,  нет", "да нет"),
        ("นี่ คือ ฝน", "นี่คือฝน"),
        ("हाँ।", "हाँ"),
        ("Cafe\u0301", "café"),
        ("３．５", "3.5"),
        ("❤️", "❤"),
        ("co-op", "coop"),
    ],
)
def test_texts_that_match_exactly(one: str, other: str) -> None:
    assert plain(one) == plain(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("巴黎", "巴里"), ("हाँ", "ह"), ("नहीं", "नही"), ("été", "ete"), ("√2", "2"), ("दिल्ली है", "दिल्लीहै"), ("😀", "😢")],
)
def test_texts_that_do_not(one: str, other: str) -> None:
    assert plain(one) != plain(other)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("写一首诗", 3),
        ("总结这段话", 4),
        ("解释Python的历史。", 5),
        ("この文章を要約してください。", 8),
        ("เขียนบทกวีเกี่ยวกับฝน", 4),
        ("हिन्दी में एक कविता लिखो।", 5),
        ("Quelle heure est-il ?", 3),
        ("— ; …", 0),
        ("", 0),
    ],
)
def test_words_are_counted_by_their_usual_length_where_no_space_tells_them_apart(text: str, words: int) -> None:
    assert len(word_ends(text)) == words


@given(odd_texts)
def test_words_end_one_after_another_inside_the_text(text: str) -> None:
    ends = word_ends(text)
    assert ends == sorted(set(ends))
    assert all(0 < end <= len(text) for end in ends)
    assert bool(ends) == any(map(str.isalnum, text))


@pytest.mark.parametrize("part", ["कि", "写", "ab ", "ि", "é\u0301", "\u200d", "क ", "哈，"])
def test_time_grows_with_the_length_alone(part: str) -> None:
    def seconds(times: int) -> float:
        started = time.process_time()
        for read in (tokens, plain, word_ends, unicode_words.said_thrice):
            read(part * times)
        return time.process_time() - started

    seconds(10)
    assert seconds(40_000) < 20 * max(seconds(4_000), 0.01)
