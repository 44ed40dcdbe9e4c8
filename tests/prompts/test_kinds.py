"""Promises of the questions of kind: their form, and a threshold that balances both classes."""

from __future__ import annotations

import math

import pytest
from example_rows import task
from hypothesis import assume, given
from hypothesis import strategies as st

from refine_af.prompts.kinds import NO, YES, best_threshold, is_of_kind, kind_prompt
from refine_af.records import SeedTask

SPAM = task("Is it spam?", "Win now!", "yes", is_classification=True)
POEM = task("Write a poem")
LONG = task("Shorten it", "A long text", "short")


def test_the_prompt_shows_labelled_tasks_and_is_continued_by_yes_or_no() -> None:
    assert kind_prompt("classification", [SPAM, POEM], "Name a cat") == (
        "Is the task answered with one of a few fixed labels?\n\n"
        f"Task: Is it spam?\nLabels:{YES}\n\nTask: Write a poem\nLabels:{NO}\n\nTask: Name a cat\nLabels:"
    )
    assert kind_prompt("needs input", [LONG, POEM], "Name a cat") == (
        "Does the task need a text or data that is given with it?\n\n"
        f"Task: Shorten it\nNeeds input:{YES}\n\nTask: Write a poem\nNeeds input:{NO}\n\n"
        "Task: Name a cat\nNeeds input:"
    )
    assert kind_prompt("needs input", [], "Name a cat").endswith("?\n\nTask: Name a cat\nNeeds input:")


@pytest.mark.parametrize(("of", "labelled", "given"), [(SPAM, True, True), (POEM, False, False), (LONG, False, True)])
def test_a_seed_says_itself_of_what_kind_it_is(of: SeedTask, labelled: bool, given: bool) -> None:
    assert is_of_kind("classification", of) is labelled
    assert is_of_kind("needs input", of) is given


@pytest.mark.parametrize(
    ("scores", "labels", "expected"),
    [
        ([0.0, 1.0], [False, True], 0.5),
        ([-3.0, -2.0, 4.0, 5.0], [False, False, True, True], 1.0),
        ([5.0, 5.5, 6.0, 7.0], [False, False, False, True], 6.5),  # a habit of Yes moves the threshold, not the truth
        ([1.0, 2.0], [True, True], -math.inf),
        ([1.0, 2.0], [False, False], math.inf),
        ([], [], math.inf),
        ([1.0, 1.0], [True, False], math.inf),  # nothing tells them apart
    ],
)
def test_the_threshold_lies_between_the_classes(scores: list[float], labels: list[bool], expected: float) -> None:
    assert best_threshold(scores, labels) == expected


def test_both_classes_weigh_the_same_however_rare_one_is() -> None:
    scores = [0.0] * 96 + [2.0] * 4 + [1.0]
    labels = [False] * 100 + [True]
    # Right for 97 of 101 under 1.0; saying "never" would be right for 100 and useless.
    assert best_threshold(scores, labels) == 0.5


def test_a_kind_that_is_rarer_among_the_tasks_weighs_less() -> None:
    scores, labels = [0.0, 1.0, 2.0, 3.0], [False, True, False, True]
    assert best_threshold(scores, labels, share=0.8) == 0.5
    assert best_threshold(scores, labels, share=0.2) == 2.5


@given(st.lists(st.tuples(st.integers(-5, 5).map(float), st.booleans()), max_size=20), st.sampled_from([0.1, 0.5, 0.9]))
def test_no_threshold_is_right_more_often_than_the_chosen_one(rows: list[tuple[float, bool]], share: float) -> None:
    scores, labels = [s for s, _ in rows], [label for _, label in rows]
    assume(any(labels) and not all(labels))

    def accuracy(threshold: float) -> float:
        positives = [s > threshold for s, label in rows if label]
        negatives = [s <= threshold for s, label in rows if not label]
        return share * sum(positives) / len(positives) + (1 - share) * sum(negatives) / len(negatives)

    chosen = accuracy(best_threshold(scores, labels, share))
    assert all(accuracy(t) <= chosen + 1e-12 for t in [-math.inf, *(s + 0.5 for s in scores)])
