"""Promises of the scorers without a model: what each counts, and that no text crashes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refine_af.feedback.base import Example, Scorer
from refine_af.feedback.passages import EchoScorer
from refine_af.feedback.rules import (
    Complement,
    FormatScorer,
    LengthScorer,
    OwnWordsScorer,
    SubstanceScorer,
    VarietyScorer,
)
from refine_af.language import Language


def repetition() -> Scorer:
    return Complement("repetition", VarietyScorer())


def copying(free: int = 5) -> Scorer:
    return Complement("copying", OwnWordsScorer(free))


SCORERS: list[Scorer] = [
    VarietyScorer(),
    OwnWordsScorer(),
    SubstanceScorer(),
    LengthScorer(),
    repetition(),
    copying(),
    FormatScorer(),
]


def score(scorer: Scorer, output: str, instruction: str = "Do it", input: str = "") -> float:
    return scorer.score([Example(instruction, input, output)])[0]


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("a fine answer in seven different words", 1.0),
        ("one two three", 1.0),
        ("one two", 1.0),
        ("one", 1.0),
        ("", 1.0),
        ("no no", 0.5),
        ("no no no no", 0.25),  # short: its words, one kind
        ("a b c a b c a b c", 3 / 7),
        ("A b. C a, B c!", 0.75),  # case and punctuation make no difference
        ("x " * 102, 0.01),
    ],
)
def test_variety_is_the_share_of_different_trigrams(output: str, expected: float) -> None:
    assert score(VarietyScorer(), output) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("instruction", "input", "output", "expected"),
    [
        ("Name a colour", "", "blue", 1.0),
        ("Name a colour", "", "colour", 1.0),  # a single word is no echo
        ("Name a colour", "", "a colour", 0.0),
        ("Name a colour", "", "A Colour!", 0.0),
        ("Name a colour", "", "colour a", 1.0),
        ("Name a colourful bird", "", "a colour", 1.0),  # whole words
        ("Pick the name", "Ann met Bo Lee", "Bo Lee", 1.0),  # extracted, as asked
        ("Repeat", "Bo Lee", "bo lee", 0.0),  # the whole input
        ("Repeat", "Bo", "Bo", 0.0),
        ("Do it", "", "", 1.0),
        ("Do it", "a b c d e f", "a b c d e f", 0.0),
        ("Do it", "a b c d e f", "u v w x y z", 1.0),
        ("Do it", "a b c d", "a b c x y z", 0.6),  # two of five bigrams copied
        ("a b c d e f", "", "a b c d e f", 0.0),
        ("Do it", "a b", "a b a b a b a b", 6 / 7),  # copied once, said four times
    ],
)
def test_own_words_are_those_that_are_not_copied(instruction: str, input: str, output: str, expected: float) -> None:
    assert score(OwnWordsScorer(), output, instruction, input) == pytest.approx(expected)


def test_how_long_a_label_may_be_can_be_set() -> None:
    assert score(OwnWordsScorer(free=2), "met Bo Lee", input="Ann met Bo Lee") == 0.0
    assert score(OwnWordsScorer(free=3), "met Bo Lee", input="Ann met Bo Lee") == 1.0


@pytest.mark.parametrize(
    ("output", "expected"), [("word", 1.0), ("7", 1.0), ("日本", 1.0), ("", 0.0), (" \n", 0.0), ("?!…—", 0.0)]
)
def test_substance_is_a_letter_or_a_digit(output: str, expected: float) -> None:
    assert score(SubstanceScorer(), output) == expected


@pytest.mark.parametrize(
    ("output", "words"), [("", 0), (" \n", 0), ("one", 1), ("It's well-known.\n\nYes, it is!", 5), ("a - b", 3)]
)
def test_length_is_in_words_as_white_space_separates_them(output: str, words: int) -> None:
    assert score(LengthScorer(), output) == words


def test_repetition_is_what_variety_is_not_and_copying_what_own_words_are_not() -> None:
    assert score(repetition(), "a fine answer in seven different words") == 0.0
    assert score(repetition(), "a b c a b c a b c") == pytest.approx(4 / 7)
    assert score(copying(), "a b c x y z", input="a b c d") == pytest.approx(0.4)
    assert score(copying(), "u v w x y z", input="a b c d e f") == 0.0
    assert score(copying(free=3), "met Bo Lee", input="Ann met Bo Lee") == 0.0
    assert score(copying(free=2), "met Bo Lee", input="Ann met Bo Lee") == 1.0


def test_a_setting_that_changes_values_changes_the_identity() -> None:
    assert copying(free=2).identity != copying(free=3).identity == OwnWordsScorer(free=3).identity


@pytest.mark.parametrize("scorer", SCORERS, ids=lambda s: s.name)
@given(st.lists(st.tuples(*[st.one_of(st.text(max_size=20), st.text("ab ", max_size=30))] * 3), max_size=4))
def test_scores_are_within_their_bounds_and_independent_of_the_batch(
    scorer: Scorer, rows: list[tuple[str, str, str]]
) -> None:
    examples = [Example(*row) for row in rows]
    scores = scorer.score(examples)
    assert scores == [scorer.score([e])[0] for e in examples]
    assert all(scorer.low <= s <= scorer.high for s in scores)
    assert isinstance(scorer, Scorer)


@pytest.mark.parametrize(
    ("output", "code", "words"),
    [("写一首关于雨的诗。", "zh", 6), ("हिन्दी में लिखो।", "hi", 3), ("เขียนบทกวีเกี่ยวกับฝน", "th", 4), ("un deux", "fr", 2)],
)
def test_words_are_counted_in_any_language(output: str, code: str, words: int) -> None:
    assert score(LengthScorer(Language(code)), output) == words


def test_going_round_in_circles_and_copying_are_seen_in_any_script() -> None:
    chinese, hindi = Language("zh"), Language("hi")
    assert score(VarietyScorer(chinese), "下雨了下雨了下雨了下雨了") < 0.4
    assert score(VarietyScorer(hindi), "किताब कीमत कुछ कैसे") == 1.0  # not one letter again and again
    text = "法国的首都是巴黎，它也是最大的城市。"
    assert score(OwnWordsScorer(language=chinese), text, input=text) == 0.0
    assert score(OwnWordsScorer(language=chinese), "今天下雨，所以我们留在家里看书。", input=text) == 1.0
    assert EchoScorer("input", chinese).score([Example("抄写", text, text)]) == [1.0]
    assert EchoScorer("input", chinese).score([Example("抄写", text, "巴黎")]) == [0.0]


def test_scores_in_another_language_have_another_identity() -> None:
    for make in (LengthScorer, VarietyScorer, OwnWordsScorer, FormatScorer):
        assert make(language=Language("zh")).identity != make().identity == make(language=Language("en-GB")).identity
