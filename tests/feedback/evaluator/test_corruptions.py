"""Promises of the rules that spoil pairs and of those that make exercises: wrong, or right, by construction."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refine_af.feedback.base import Example
from refine_af.feedback.evaluator.corruptions import RULES, corrupted
from refine_af.feedback.evaluator.exercises import MAKERS, completion, correction, exercises, reordering
from refine_af.feedback.evaluator.styles import dressed
from refine_af.seeds import built_in_tasks

PAIRS = [Example(t.instruction, t.input, t.output) for t in built_in_tasks()]
LONG = Example(
    "Describe how to make tea.",
    "For a guest who is in a hurry and likes it strong.",
    "Boil fresh water and warm the pot. Put in two spoons of leaves. Wait four minutes, then pour and serve.",
)
OTHER = Example("Name a river in Spain.", "", "The Ebro is the longest river that is wholly in Spain.")
texts = st.text(st.sampled_from("ab .\n,é"), max_size=40)


@pytest.mark.parametrize("kind", RULES)
def test_every_rule_spoils_most_seeds_and_never_returns_the_answer_itself(kind: str) -> None:
    spoilt = [corrupted(random.Random(1), RULES[kind], PAIRS, place) for place in range(len(PAIRS))]
    found = [(pair, bad) for pair, bad in zip(PAIRS, spoilt, strict=True) if bad is not None]
    assert len(found) > len(PAIRS) // 3
    assert all((bad.instruction, bad.input) == (pair.instruction, pair.input) for pair, bad in found)
    assert all(bad.output.split() != pair.output.split() for pair, bad in found)


@pytest.mark.parametrize("kind", RULES)
@given(texts, texts, texts, st.integers(0, 9))
def test_no_text_crashes_a_rule(kind: str, instruction: str, input: str, output: str, seed: int) -> None:
    RULES[kind](random.Random(seed), Example(instruction, input, output), OTHER)


@pytest.mark.parametrize("seed", range(5))
def test_what_the_rules_promise(seed: int) -> None:
    def by(kind: str) -> str:
        output = RULES[kind](random.Random(seed), LONG, OTHER)
        assert output is not None
        return output

    assert by("other task") == OTHER.output
    assert LONG.output.startswith(by("cut"))
    assert len(by("cut").split()) < len(LONG.output.split())
    assert len(by("stub").split()) <= 2
    assert sorted(by("shuffled").split()) == sorted(LONG.output.split())
    assert len(set(by("repeated").split())) <= len(by("repeated").split()) / 1.2
    assert by("copied input") in LONG.input
    assert by("copied instruction") in LONG.instruction
    assert by("wandering").startswith(LONG.output)
    assert by("wandering").endswith(OTHER.output)
    assert by("new task").endswith(OTHER.prompt)


def test_an_answer_of_one_word_is_not_cut_shuffled_or_stubbed() -> None:
    short = Example("Is it so?", "", "Yes")
    assert [RULES[kind](random.Random(0), short, OTHER) for kind in ("cut", "shuffled", "stub")] == [None] * 3


def test_exercises_are_of_every_kind_and_as_many_as_asked_for() -> None:
    made = exercises(random.Random(0), PAIRS, 40)
    assert len(made) == 40
    assert made == exercises(random.Random(0), PAIRS, 40)
    assert all(e.input and e.output and e.instruction for e in made)
    assert len({e.instruction for e in made}) >= len(MAKERS)


def test_exercises_are_right_by_construction() -> None:
    for seed in range(20):
        chance = random.Random(seed)
        finished = completion(chance, LONG)
        assert finished is not None
        assert f"{finished.input} {finished.output}" == LONG.output
        ordered = reordering(chance, LONG)
        assert ordered is not None
        assert sorted(ordered.input.split(" / ")) == sorted(ordered.output.split())
        corrected = correction(chance, LONG)
        if corrected is not None:
            assert sorted(corrected.input) == sorted(corrected.output)  # letters change places
            assert corrected.output in f"{LONG.output} {LONG.input}"


@pytest.mark.parametrize("seed", range(30))
def test_dress_changes_neither_words_nor_task(seed: int) -> None:
    pair = dressed(random.Random(seed), LONG)
    assert LONG.instruction in pair.instruction
    for before, after in ((LONG.input, pair.input), (LONG.output, pair.output)):
        assert plain_words(before) == plain_words(after)


def plain_words(text: str) -> list[str]:
    return [word for part in text.lower().split() if (word := part.strip(".,"))]
