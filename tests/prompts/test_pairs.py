"""Promises of a pair's turns: which there are, what each shows, says and is asked with, and how it is read."""

from __future__ import annotations

import pytest
from example_rows import task
from hypothesis import given
from hypothesis import strategies as st
from plain_tokenizer import Tokenizer

from refine_af.prompts.answers import answer_frame, asked
from refine_af.prompts.dialect import Dialect
from refine_af.prompts.pairs import Turn, Unreadable, read_turn, shows, turn_frame, turn_task, turns_of
from refine_af.seeds import load_seeds

TURNS: tuple[Turn, ...] = ("answer", "input", "answer to input", "label", "input of label")
INPUT_TURNS = ("input", "input of label")


PLAIN, CHAT = (Dialect(Tokenizer(template)) for template in (None, "a template"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("needs_input", "is_classification", "turns"),
    [
        (False, False, ("answer",)),
        (False, True, ("answer",)),
        (True, False, ("input", "answer to input")),
        (True, True, ("label", "input of label")),
    ],
)
def test_an_input_takes_a_turn_of_its_own_and_a_label_comes_before_it(
    needs_input: bool, is_classification: bool, turns: tuple[Turn, ...]
) -> None:
    assert turns_of(needs_input=needs_input, is_classification=is_classification) == turns


@pytest.mark.parametrize(
    ("of", "shown_in"),
    [
        (task("Do", "", "x"), {"answer"}),
        (task("Do", "", "x", is_classification=True), {"answer"}),
        (task("Do", "in", "x"), {"input", "answer to input"}),
        (task("Do", "in", "x", is_classification=True), {"input", "label", "input of label"}),
    ],
)
def test_a_task_is_shown_in_the_turns_that_are_of_its_kind(of: object, shown_in: set[str]) -> None:
    assert {turn for turn in TURNS if shows(turn, of)} == shown_in  # type: ignore[arg-type]


@pytest.mark.parametrize("turn", TURNS)
def test_every_turn_has_seeds_to_show_among_the_built_in_ones(turn: Turn) -> None:
    assert sum(shows(turn, t) for t in load_seeds(None).tasks) >= 8


WITH_INPUT = task("Translate it.", "Guten Tag", "Good day")
LABELLED = task("Is it happy?", "What a day!", "yes", is_classification=True)


@pytest.mark.parametrize("dialect", [PLAIN, CHAT], ids=["plain", "chat"])
@pytest.mark.parametrize("turn", ["answer", "answer to input"])
def test_an_answer_is_asked_for_in_the_words_of_fine_tuning_and_evaluation(dialect: Dialect, turn: Turn) -> None:
    assert turn_frame(dialect, turn, [WITH_INPUT]) == answer_frame(dialect, [WITH_INPUT])
    input = "" if turn == "answer" else "la"
    made = turn_frame(dialect, turn, [WITH_INPUT]).prompt(turn_task(turn, "Sing it.", input=input))
    by_itself = answer_frame(dialect).prompt(asked("Sing it.", input))
    assert made.endswith(by_itself.removeprefix("<s>"))


@pytest.mark.parametrize("dialect", [PLAIN, CHAT], ids=["plain", "chat"])
def test_an_input_is_plain_text_for_every_model_behind_tasks_with_theirs(dialect: Dialect) -> None:
    made = turn_frame(dialect, "input", [WITH_INPUT]).prompt(turn_task("input", "Sing it."))
    assert made == (
        "<s>For each task, an input that it can be done with.\n\n"
        "### Task\nTranslate it.\n\n### Input\nGuten Tag\n\n"
        "### Task\nSing it.\n\n### Input\n"
    )


def test_labelled_tasks_have_their_label_written_and_then_an_input_for_it() -> None:
    label = turn_frame(PLAIN, "label", [LABELLED]).prompt(turn_task("label", "Is it spam?"))
    assert label.endswith("### Task\nIs it happy?\n\n### Label\nyes\n\n### Task\nIs it spam?\n\n### Label\n")
    assert "What a day!" not in label
    of_label = turn_frame(PLAIN, "input of label", [LABELLED])
    made = of_label.prompt(turn_task("input of label", "Is it spam?", label="no"))
    assert made.endswith(
        "### Task\nIs it happy?\n\n### Label\nyes\n\n### Input\nWhat a day!\n\n"
        "### Task\nIs it spam?\n\n### Label\nno\n\n### Input\n"
    )


@pytest.mark.parametrize("turn", TURNS)
def test_a_demonstration_ends_where_a_completion_would(turn: Turn) -> None:
    frame = turn_frame(PLAIN, turn, [LABELLED, WITH_INPUT])
    said = {"label": LABELLED.output, "input": LABELLED.input, "input of label": LABELLED.input}
    behind = frame.before.partition(f"\n{said.get(turn, LABELLED.output)}")[2]
    assert any(behind.lstrip("\n") and stop in behind for stop in frame.stop)


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("dialect", [PLAIN, CHAT], ids=["plain", "chat"])
@given(st.text(min_size=1, max_size=20))
def test_the_task_stands_once_in_its_place_and_what_is_before_it_does_not_depend_on_it(
    dialect: Dialect, turn: Turn, text: str
) -> None:
    frame = turn_frame(dialect, turn, [LABELLED])
    made = frame.prompt(turn_task(turn, text))
    assert made.startswith(f"{frame.before}{text}")
    assert made.endswith(frame.after)


@given(st.text(), st.sampled_from(TURNS))
def test_a_completion_that_ended_is_taken_as_it_is_without_the_space_around_it(text: str, turn: Turn) -> None:
    read = read_turn(turn, text, ended=True)
    what = "input" if turn in INPUT_TURNS else "output"
    assert read == (text.strip() or Unreadable(f"empty {what}"))


@given(st.text(), st.sampled_from(TURNS))
def test_what_may_be_half_is_never_taken_for_whole(text: str, turn: Turn) -> None:
    what = "input" if turn in INPUT_TURNS else "output"
    assert read_turn(turn, text, ended=False) == Unreadable("cut by length", what)
