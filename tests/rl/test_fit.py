"""What the fit of answers to their own tasks can't be raised by."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refine_af.feedback.base import Example, Judgement
from refine_af.stages.fit import Paid, fit_of

Pay = Callable[[Example], float]


class Paying:
    """A user's reward."""

    name, floor = "paying", -3.0

    def __init__(self, pay: Pay) -> None:
        self._pay = pay

    def judge(self, examples: Sequence[Example]) -> list[Judgement]:
        return [Judgement(self._pay(one), {}) for one in examples]


def paid(pay: Pay, answers: Sequence[str]) -> Paid:
    pairs = {str(place): Example(f"Say {place}.", "", answer) for place, answer in enumerate(answers)}
    return {id: (one, pay(one)) for id, one in pairs.items()}


def own_number(pair: Example) -> float:
    return float(pair.instruction == f"Say {pair.output}.")


answers = st.lists(st.text(min_size=1, max_size=12), min_size=2, max_size=8)


@given(before=answers, more=st.text(max_size=30), seed=st.integers(0, 9))
def test_style_that_is_paid_behind_any_task_is_no_fit(before: list[str], more: str, seed: int) -> None:
    def pay(pair: Example) -> float:  # of the answer and of the task, each by itself
        return len(pair.output) + 2.0 * pair.prompt.count("1")

    after = [f"{one}{more}" for one in before]
    found = fit_of(Paying(pay), paid(pay, before), paid(pay, after), seed)
    assert found is not None
    assert [found.before, found.after, found.difference.mean] == pytest.approx([0, 0, 0], abs=1e-9)


def test_answers_that_come_to_fit_their_tasks_are_told() -> None:
    right = [str(place) for place in range(20)]
    found = fit_of(Paying(own_number), paid(own_number, ["hm"] * 20), paid(own_number, right), 0)
    assert found is not None
    assert (found.before, found.after) == (0, 1)
    assert found.difference.low > 0


def test_right_answers_that_change_places_lose_their_fit() -> None:
    right = [str(place) for place in range(20)]
    moved = [*right[1:], right[0]]
    found = fit_of(Paying(own_number), paid(own_number, right), paid(own_number, moved), 0)
    assert found is not None
    assert found.difference.high < 0


class Gating(Paying):
    """A reward with a gate that longer answers fail behind some prompts alone."""

    def judge(self, examples: Sequence[Example]) -> list[Judgement]:
        judged = super().judge(examples)
        return [
            Judgement(self.floor, {}, sound=False) if "1" in one.instruction and len(one.output) > 1 else of
            for one, of in zip(examples, judged, strict=True)
        ]


def test_an_answer_that_fails_a_gate_behind_the_other_task_says_nothing_of_fit() -> None:
    before, after = ["a"] * 12, ["ab"] * 12
    found = fit_of(Gating(lambda pair: 1.0), paid(lambda pair: 1.0, before), paid(lambda pair: 1.0, after), 0)
    assert found is not None
    assert (found.before, found.after) == (0, 0)


@pytest.mark.parametrize("count", [0, 1])
def test_one_instruction_alone_has_no_other_to_be_moved_to(count: int) -> None:
    many, few = paid(own_number, ["0", "1", "2"]), paid(own_number, ["0"] * count)
    assert fit_of(Paying(own_number), many, few, 0) is None
