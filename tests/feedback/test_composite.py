"""Promises of the composite reward: a visible weighted sum, clipped, gated, floored, and strict with its scorers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refine_af.errors import RefineError, UsageError
from refine_af.feedback.base import Better, Cost, Example, Scorer
from refine_af.feedback.composite import Component, Composite, Gate, calibrated, floor_below, is_empty
from refine_af.feedback.rules import SubstanceScorer
from refine_af.store import Store


class Scripted:
    """A scorer that answers with the numbers that the outputs spell, times ``factor``."""

    low, high = -math.inf, math.inf
    better: Better = "high"
    cost: Cost = "rules"
    identity: str | None = None

    def __init__(self, name: str = "scripted", factor: float = 1.0) -> None:
        self.name = name
        self._factor = factor
        self.calls = 0

    def score(self, examples: Sequence[Example]) -> list[float]:
        self.calls += 1
        return [self._factor * float(e.output) for e in examples]


class Wrong(Scripted):
    """Returns what it is given, whatever it is asked."""

    def __init__(self, values: Any) -> None:
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
    assert judgement.shares == {"a": 6.0, "b": -15.0}


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


@pytest.mark.parametrize("value", [1e30, -2e9])
def test_a_score_too_large_to_train_with_is_refused_with_its_output(value: float) -> None:
    components = [Component(Wrong([1.0, value]), 1.0)]
    with pytest.raises(RefineError, match=r"scorer 'wrong' returned .* for the output '2'.*on a smaller scale"):
        Composite("f", components, floor=0).judge(examples(1, 2)[:1] + [Example("Do it", "", "2")])


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


# -- gates ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "cap", "expected"),
    [
        (5.0, 1.0, 5.0),  # the gate holds, so its cap means nothing
        (1.9, 1.0, 1.0),
        (0.5, 1.0, 0.5),  # worse than the cap already
        (9.5, 1.0, 1.0),
        (9.5, -math.inf, -3.0),  # no cap: the floor
        (9.5, -50.0, -3.0),  # never under the floor
    ],
)
def test_a_failed_gate_caps_the_reward_and_never_raises_it(value: float, cap: float, expected: float) -> None:
    scorer = Scripted()
    gate = Gate(scorer, minimum=2.0, maximum=9.0, cap=cap)
    feedback = Composite("f", [Component(scorer, 1.0)], floor=-3.0, gates=[gate])
    assert feedback.judge(examples(value))[0].reward == expected


@pytest.mark.parametrize("value", [2.0, 9.0])
def test_a_gate_holds_at_its_ends(value: float) -> None:
    assert Gate(Scripted(), minimum=2.0, maximum=9.0).holds(value)


@given(st.floats(-100, 100), st.floats(-100, 100), st.floats(-100, 100))
def test_a_gate_can_only_lower_a_reward(value: float, minimum: float, cap: float) -> None:
    scorer = Scripted()
    without = Composite("f", [Component(scorer, 1.0)], floor=-500).judge(examples(value))[0].reward
    gated = Composite("f", [Component(scorer, 1.0)], floor=-500, gates=[Gate(scorer, minimum, cap=cap)])
    assert gated.judge(examples(value))[0].reward <= without


def test_the_shares_of_a_capped_pair_are_those_before_the_gate() -> None:
    scorer = Scripted()
    feedback = Composite("f", [Component(scorer, 2.0)], floor=-3.0, gates=[Gate(scorer, 5.0, cap=1.0)])
    (judgement,) = feedback.judge(examples(4))
    assert (judgement.reward, judgement.shares) == (1.0, {"scripted": 8.0})


def test_a_pair_that_a_gate_sends_to_the_floor_is_shown_to_no_component() -> None:
    asked: list[str] = []

    class Dear(Scripted):
        def score(self, examples: Sequence[Example]) -> list[float]:
            asked.extend(e.output for e in examples)
            return [1.0] * len(examples)

    pairs = [Example("Say it.", "", output) for output in ("a good answer", "?!", "", "another one")]
    feedback = Composite("f", [Component(Dear(), 2.0)], floor=-3.0, gates=[Gate(SubstanceScorer(), 1.0)])
    assert [j.reward for j in feedback.judge(pairs)] == [2.0, -3.0, -3.0, 2.0]
    assert asked == ["a good answer", "another one"]


# -- outputs that are none -----------------------------------------------------------------------------


@pytest.mark.parametrize("output", ["", " ", "\n\t", "\u200b", "\u00a0\u2060\ufeff", "\x00"])
def test_an_empty_output_gets_the_floor_and_no_scorer_sees_it(output: str) -> None:
    scorer = Scripted()
    feedback = Composite("f", [Component(scorer, 1.0)], floor=-3.0)
    judged = feedback.judge([*examples(1), Example("Do it", "", output), *examples(2)])
    assert [j.reward for j in judged] == [1.0, -3.0, 2.0]
    assert judged[1].components == {}
    feedback.judge([Example("Do it", "", output)])
    assert scorer.calls == 1


@pytest.mark.parametrize("output", ["0", ".", "\u4f60", "\U0001f468\u200d\U0001f469", " x "])
def test_what_can_be_seen_is_not_empty(output: str) -> None:
    assert not is_empty(output)


# -- pairs that are sound ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "sound"),
    [
        (5.0, True),
        (2.0, True),  # the gate's minimum itself
        (1.9, False),  # the gate failed, and its cap leaves a reward well over the floor
        (-3.0, False),  # at the floor
        (-9.0, False),
    ],
)
def test_a_pair_is_sound_over_the_floor_and_behind_every_gate(value: float, sound: bool) -> None:
    gates = [Gate(Scripted("g"), minimum=2.0, cap=1.0)]
    (judgement,) = Composite("f", [Component(Scripted(), 1.0)], floor=-3.0, gates=gates).judge(examples(value))
    assert judgement.sound is sound


def test_a_gate_with_a_cap_over_the_reward_leaves_a_pair_unsound_all_the_same() -> None:
    gates = [Gate(Scripted("g"), maximum=1.0, cap=100.0)]
    (judgement,) = Composite("f", [Component(Scripted(), 1.0)], floor=-3.0, gates=gates).judge(examples(4))
    assert (judgement.reward, judgement.sound) == (4.0, False)


def test_an_empty_output_is_not_sound() -> None:
    (judgement,) = Composite("f", [Component(Scripted(), 1.0)], floor=-3.0).judge([Example("Do it", "", " ")])
    assert not judgement.sound


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=6), st.floats(-5, 5), st.floats(-5, 5))
def test_what_is_sound_is_over_the_floor_and_has_the_reward_that_no_gate_touched(
    values: list[float], floor: float, minimum: float
) -> None:
    scorer = Scripted()
    feedback = Composite("f", [Component(scorer, 1.0)], floor=floor, gates=[Gate(scorer, minimum)])
    for value, judgement in zip(values, feedback.judge(examples(*values)), strict=True):
        assert judgement.sound == (value > floor and value >= minimum)
        assert not judgement.sound or judgement.reward == value


@given(st.floats(-1e9, 1e9, allow_nan=False))
def test_no_bounded_pair_is_as_bad_as_an_empty_one(value: float) -> None:
    components = [Component(Scripted(), 0.7, mean=3.0, spread=2.0, clip=2.0)]
    feedback = Composite("f", components, floor=floor_below(components))
    empty, other = feedback.judge([Example("Do it", "", ""), *examples(value)])
    assert empty.reward < other.reward


# -- what a scorer may not do --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ([1.0, None], "scorer 'wrong' returned None for the output '2'"),
        (None, "scorer 'wrong' must return a list of numbers, returned None"),
        (3.0, "scorer 'wrong' must return a list of numbers, returned 3.0"),
        (["good", "bad"], "scorer 'wrong' must return a list of numbers"),
    ],
)
def test_what_is_no_list_of_numbers_is_told_with_the_scorer(returned: Any, said: str) -> None:
    with pytest.raises(RefineError) as caught:
        Composite("f", [Component(Wrong(returned), 1.0)], floor=0).judge(examples(1, 2))
    assert said in str(caught.value)


def test_a_label_names_a_scorer_in_place_of_its_own_name() -> None:
    one, other = Component(Scripted(), 1.0, label="first"), Component(Scripted(factor=2), 1.0, label="second")
    (judgement,) = Composite("f", [one, other], floor=-9).judge(examples(3))
    assert judgement.components == {"first": 3.0, "second": 6.0}
    with pytest.raises(RefineError, match="scorer 'mine' returned nan"):
        Composite("f", [Component(Wrong([math.nan]), 1.0, label="mine")], floor=0).judge(examples(1))


def test_two_scorers_of_one_name_are_refused() -> None:
    with pytest.raises(UsageError, match="two scorers called 'scripted'"):
        Composite("f", [Component(Scripted(), 1.0), Component(Scripted(), 1.0)], floor=0)


# -- the calibration that a run keeps ------------------------------------------------------------------


def test_the_first_calibration_is_kept_and_used_by_all_that_come_after(tmp_path: Path) -> None:
    with Store(tmp_path / "run.db") as store:
        first = Composite("f", [calibrated(Scripted(), 1.0, examples(1, 2, 3))], floor=-9)
        assert first.with_calibration_of(store).judge(examples(4)) == first.judge(examples(4))
    with Store(tmp_path / "run.db") as store:
        other = Composite("f", [calibrated(Scripted(), 1.0, examples(100, 200))], floor=-9)
        assert other.judge(examples(4)) != first.judge(examples(4))
        assert other.with_calibration_of(store).judge(examples(4)) == first.judge(examples(4))


# -- what a policy is paid -----------------------------------------------------------------------------


def test_in_training_components_have_other_weights_and_gates_stay(tmp_path: Path) -> None:
    parts = [Component(Scripted("ours"), 1.0), Component(Scripted("other", 2.0), 1.0)]
    gates = [Gate(Scripted("gate"), maximum=5.0, cap=-1.0)]
    chosen = Composite("both", parts, floor=-9.0, gates=gates, training={"other": 0.0})
    pairs = [Example("i", "", "3"), Example("i", "", "6")]
    assert [one.reward for one in chosen.judge(pairs)] == [9.0, -1.0]
    with Store(tmp_path / "run.db") as store:
        paid = chosen.remembering(store).with_calibration_of(store).for_training()
        assert [(one.reward, one.sound) for one in paid.judge(pairs)] == [(3.0, True), (-1.0, False)]
    assert [one.reward for one in Composite("both", parts, floor=-9.0).for_training().judge(pairs)] == [9.0, 18.0]
