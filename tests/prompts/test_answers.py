"""Promises of asking and cutting: the task as a user types it, and the part of an answer that is scored."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refine_af.config import EvaluationConfig
from refine_af.prompts.answers import Cut, asked, cut_answer, scored_part


@pytest.mark.parametrize(
    ("instruction", "input", "expected"),
    [("Name a cat.", "", "Name a cat."), ("Translate.", "chat", "Translate.\n\nchat")],
)
def test_an_input_stands_under_its_instruction(instruction: str, input: str, expected: str) -> None:
    assert asked(instruction, input) == expected


@pytest.mark.parametrize(
    ("rule", "expected"),
    [("none", "one\ntwo\n\nthree"), ("first_line", "one"), ("blank_line", "one\ntwo")],
)
def test_an_answer_is_cut_by_the_rule(rule: Cut, expected: str) -> None:
    assert cut_answer("\n one\ntwo\n\nthree \n", rule) == expected


@given(st.text(), st.sampled_from(get_args(Cut)))
def test_cutting_takes_a_stripped_beginning_and_a_second_cut_takes_nothing(text: str, rule: Cut) -> None:
    cut = cut_answer(text, rule)
    assert text.strip().startswith(cut)
    assert cut == cut.strip()
    assert cut_answer(cut, rule) == cut
    assert bool(cut) == bool(text.strip())


@given(st.text(st.sampled_from("ab \n\t")), st.sampled_from(get_args(Cut)))
def test_what_generation_leaves_out_is_not_scored(text: str, rule: Cut) -> None:
    stop = scored_part(rule)
    ends = (n for n in range(1, len(text) + 1) if stop.cut(text[:n])[1])
    assert cut_answer(stop.cut(text[: next(ends, len(text))])[0], rule) == cut_answer(text, rule)


def test_the_config_offers_every_rule() -> None:
    assert [EvaluationConfig(cut=rule).cut for rule in get_args(Cut)] == list(get_args(Cut))
