"""Promises of the composite reward: a visible weighted sum, clipped, gated, floored, and strict with its scorers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refine_af.errors import RefineError, UsageError
from refine_af.feedback.base import Example, Scorer
from refine_af.feedback.composite import Component, Composite, Gate, calibrated


class Scripted:
    """A scorer that answers with the numbers that the outputs spell, times ``factor``."""

    low, high = -math.inf, math.inf

    def __init__(self, name: str = "scripted", factor: float = 1.0) -> None:
        self.name = name
        self._factor = factor
        self.calls = 0

    def score(self, examples: Sequence[Example]) -> list[float]:
        self.calls += 1
        return [self._factor * float(e.output) for e in examples]


class Wrong(Scripted):
    """Returns what it is given, whatever it is asked."""

    def __init__(self, values: list[float]) -> None:
        super().__init__("wrong")
        self._values = values

    def score(self, examples: Sequence[Example]) -> list[float]:
        return self._values


def examples(*values: float) -> list[Example]:
    return [Example("Do it", "", str(v)) for v in values]


def test_the_reward_is_the_offset_and_the_weighted_components_which_stay_visible() -> None:
    feedback = Composite(
        "f", [Component(Scripted("a"), 2.0), Component(Scripted("b", 10), -0.5)], floor=-100, offset=1.0
    )
    (judgement,) = feedback.judge(examples(3))
    assert judgement.reward == 1.0 + 2.0 * 3 - 0.5 * 30
    assert judgement.components == {"a": 3.0, "b": 30.0}


@pytest.mark.parametrize(
    ("value", "expected"), [(10, 0.0), (14, 2.0), (6, -2.0), (16, 3.0), (17, 3.0), (100, 3.0), (4, -3.0), (-100, -3.0)]
)
def test_a_calibrated_component_is_a_standard_score_clipped_on_both_sides(value: float, expected: float) -> None:
    component = Component(Scripted(), 1.0, mean=10.0, spread=2.0, clip=3.0)
    assert component.contribution(value) == expected


def test_calibration_takes_mean_and_spread_of_the_good_pairs() -> None:
    component = calibrated(Scripted(), 0.5, examples(1, 2, 3, 4), clip=1.0)
    assert component.mean == 2.5
    assert component.spread == pytest.approx(math.sqrt(1.25))
    assert component.contribution(2.5) == 0.0
    assert component.contribution(1000) == 0.5


def test_good_pairs_that_are_all_alike_calibrate_without_dividing_by_zero() -> None:
    component = calibrated(Scripted(), 1.0, examples(7, 7, 7))
    assert (component.mean, component.spread) == (7.0, 1.0)


@pytest.mark.parametrize(("value", "expected"), [(0.5, 0.5), (0.4999, -3.0), (0, -3.0)])
def test_a_gate_gives_the_floor_under_its_minimum_and_nothing_else(value: float, expected: float) -> None:
    scorer = Scripted()
    feedback = Composite("f", [Component(scorer, 1.0)], floor=-3.0, gates=[Gate(scorer, 0.5)])
    assert feedback.judge(examples(value))[0].reward == expected


def test_a_gates_score_is_visible_too_and_weighs_nothing() -> None:
    feedback = Composite("f", [Component(Scripted("a"), 1.0)], floor=-3.0, gates=[Gate(Scripted("g", 2), 1.0)])
    (judgement,) = feedback.judge(examples(2))
    assert judgement.reward == 2.0
    assert judgement.components == {"a": 2.0, "g": 4.0}


@given(st.lists(st.floats(-1e6, 1e6), max_size=8))
def test_no_reward_is_under_the_floor_and_each_belongs_to_its_example(values: list[float]) -> None:
    feedback = Composite("f", [Component(Scripted(), 1.0)], floor=-5.0)
    judged = feedback.judge(examples(*values))
    assert [j.reward for j in judged] == [max(-5.0, v) for v in values]
    assert [j for v in values for j in feedback.judge(examples(v))] == judged


def test_a_scorer_is_asked_once_for_a_batch_even_where_it_is_a_gate_as_well() -> None:
    scorer = Scripted()
    Composite("f", [Component(scorer, 1.0)], floor=-3.0, gates=[Gate(scorer, 0.0)]).judge(examples(1, 2, 3))
    assert scorer.calls == 1


def test_no_examples_ask_no_scorer() -> None:
    scorer = Scripted()
    assert Composite("f", [Component(scorer, 1.0)], floor=0).judge([]) == []
    assert scorer.calls == 0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("as_gate", [True, False])
def test_a_score_that_is_not_finite_is_refused_with_its_output(value: float, as_gate: bool) -> None:
    wrong: Scorer = Wrong([0.0, value])
    components = [Component(Scripted(), 1.0)] if as_gate else [Component(wrong, 1.0)]
    gates = [Gate(wrong, 0.0)] if as_gate else []
    with pytest.raises(RefineError, match=r"scorer 'wrong' returned (nan|inf|-inf) for the output '2'"):
        Composite("f", components, floor=0, gates=gates).judge(examples(1, 2)[:1] + [Example("Do it", "", "2")])


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0, 3.0]])
def test_too_few_or_too_many_scores_are_refused(values: list[float]) -> None:
    with pytest.raises(RefineError, match=f"returned {len(values)} values for 2 examples"):
        Composite("f", [Component(Wrong(values), 1.0)], floor=0).judge(examples(1, 2))


@pytest.mark.parametrize("weights", [[], [0.0], [0.0, 0.0]])
def test_weights_that_are_all_zero_are_refused(weights: list[float]) -> None:
    with pytest.raises(UsageError, match="every weight is zero"):
        Composite("f", [Component(Scripted(str(i)), w) for i, w in enumerate(weights)], floor=0)


def test_one_weight_may_be_zero_and_its_component_is_still_shown() -> None:
    feedback = Composite("f", [Component(Scripted("a"), 0.0), Component(Scripted("b"), 1.0)], floor=-9)
    (judgement,) = feedback.judge(examples(2))
    assert (judgement.reward, judgement.components) == (2.0, {"a": 2.0, "b": 2.0})
