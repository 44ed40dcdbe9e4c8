"""Promises of the pair's form: what is written is read back, and what can't be read says why."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from refine_af.prompts.dialect import Dialect
from refine_af.prompts.pairs import (
    SYSTEM,
    SYSTEM_LABEL_FIRST,
    Pair,
    Unreadable,
    pair_frame,
    parse_pair,
    written_pair,
)
from refine_af.records import SeedTask

_MARKER = re.compile(r"^[ \t]*(Input|Output)[ \t]*:", re.MULTILINE)
texts = st.one_of(
    st.text(max_size=40),
    st.lists(st.sampled_from(["Input", "output:", "the Input: x", "\n", "a b", "é"]), max_size=6).map(" ".join),
).map(str.strip)


def task(input: str, output: str, classification: bool = False) -> SeedTask:
    return SeedTask("id", "Do it", input, output, classification)


def unmarked(text: str) -> bool:
    return not _MARKER.search(text)


@given(texts, texts, st.booleans())
def test_a_written_pair_is_read_back(input: str, output: str, classification: bool) -> None:
    assume(output and unmarked(input) and unmarked(output))
    made = written_pair(task(input, output, classification))
    assert parse_pair(made, ended=True) == Pair(input, output)


@given(texts, texts, st.booleans())
def test_a_pair_followed_by_a_further_one_is_the_first_whether_that_is_whole_or_cut(
    input: str, output: str, classification: bool
) -> None:
    assume(input and output and unmarked(input) and unmarked(output))
    first = written_pair(task(input, output, classification))
    further = written_pair(task("more", "of it", classification))
    for ended in (True, False):
        assert parse_pair(f"{first}\n\n{further}", ended=ended) == Pair(input, output)


@given(texts, texts, st.booleans())
def test_a_single_pair_cut_by_length_is_unreadable(input: str, output: str, classification: bool) -> None:
    assume(output and unmarked(input) and unmarked(output))
    made = written_pair(task(input, output, classification))
    assert parse_pair(made, ended=False) == Unreadable("cut by length")


@given(st.one_of(st.text(), texts), st.booleans())
def test_no_completion_crashes_the_parser(text: str, ended: bool) -> None:
    found = parse_pair(text, ended=ended)
    assert isinstance(found, Pair) or found.reason


@pytest.mark.parametrize(
    ("task_", "expected"),
    [
        (task("", "An answer."), "An answer."),
        (task("text", "An answer."), "Input: text\nOutput: An answer."),
        (task("text", "good", True), "Output: good\nInput: text"),
        (task("", "good", True), "good"),
    ],
)
def test_classification_is_written_label_first(task_: SeedTask, expected: str) -> None:
    assert written_pair(task_) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("An answer.", Pair("", "An answer.")),
        ("  An\nanswer. \n", Pair("", "An\nanswer.")),
        ("Input: x\nOutput: y", Pair("x", "y")),
        ("\n Input : x\n\tOutput:\ny\nz", Pair("x", "y\nz")),
        ("Output: y\nInput: x", Pair("x", "y")),
        ("Output: y", Pair("", "y")),
        ("Input:\nOutput: y", Pair("", "y")),
        ("Input: x\nOutput:", Pair("x", "")),
        ("Input: x\nOutput: y\nOutput: z", Pair("x", "y")),
        ("Input: say Output: now\nOutput: y", Pair("say Output: now", "y")),
        ("", Unreadable("empty")),
        (" \n", Unreadable("empty")),
        ("Sure!\nInput: x\nOutput: y", Unreadable("text before the pair")),
        ("Input: x", Unreadable("no output")),
        ("Input: x\nInput: z\nOutput: y", Unreadable("two inputs")),
        ("Output: x\nOutput: z\nInput: y", Unreadable("two outputs")),
    ],
)
def test_a_completion_that_ended_is_read(text: str, expected: Pair | Unreadable) -> None:
    assert parse_pair(text, ended=True) == expected


@pytest.mark.parametrize("text", ["An answ", "Input: x", "Input: x\nOutput: y", "Output: y\nInput: x", "", "Input:"])
def test_what_may_be_half_is_never_taken_for_whole(text: str) -> None:
    assert parse_pair(text, ended=False) == Unreadable("cut by length")


class Plain:
    """A tokenizer of a base model, as far as a dialect asks."""

    chat_template = None
    bos_token_id = None
    bos_token = None

    def encode(self, text: str) -> list[int]:
        return [1]


@pytest.mark.parametrize(("label_first", "system"), [(True, SYSTEM_LABEL_FIRST), (False, SYSTEM)])
def test_the_frame_says_what_comes_first_and_shows_the_demonstrations(label_first: bool, system: str) -> None:
    shown = [task("text", "good", label_first)]
    frame = pair_frame(Dialect(Plain()), shown, label_first=label_first)  # type: ignore[arg-type]
    assert frame.before.startswith(system)
    assert written_pair(shown[0]) in frame.before
    assert frame.prompt("A new task").count("A new task") == 1
