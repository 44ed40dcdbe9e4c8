"""Promises of a comparison: what is counted, what is left out, what is refused, and that nothing depends on order."""

from __future__ import annotations

import dataclasses
import json
import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refine_af.errors import UsageError
from refine_af.evaluation.compare import Comparison, Evaluation, Scored, compare_evaluations, settings_apart
from refine_af.evaluation.comparison_text import as_dict, conclusion, notes, percent, points, verdict

Scores = dict[str, list[float]]
SETTINGS = {"model": "a", "shots": 0, "cut": "line", "max_source": 1024, "instances": 10}


def evaluation(scores: Scores, name: str = "A", *, exact: Scores | None = None, **settings: Any) -> Evaluation:
    """One row for each score, its category the task's first letter; exact match as ``exact`` has it, or 0."""
    rows = [
        Scored(f"{task}-{place}", task, task[0].upper(), score, exact[task][place] if exact else 0.0)
        for task, values in scores.items()
        for place, score in enumerate(values)
    ]
    return Evaluation(name, rows, {**SETTINGS, **settings}, {"X": "exact_match", "Y": "rouge_l"})


def compared(control: Scores, other: Scores) -> Comparison:
    return compare_evaluations(evaluation(control), [evaluation(other, "B")], resamples=500)


def decided(wins: int, losses: int, ties: int = 0, *, gain: float = 5.0, loss: float = 5.0) -> Comparison:
    """A comparison with so many tasks won, lost and tied, by so many points."""
    changes = [gain] * wins + [-loss] * losses + [0.0] * ties
    control = {f"t{place}": [40.0, 42.0] for place in range(len(changes))}
    other = {f"t{place}": [40.0 + change, 42.0 + change] for place, change in enumerate(changes)}
    return compared(control, other)


def test_a_task_is_won_tied_or_lost_by_its_mean_over_instances() -> None:
    versus = compared({"x": [10, 30], "y": [5, 5], "z": [7, 9]}, {"x": [20, 40], "y": [10, 0], "z": [9, 6]}).against[0]
    assert {t.name: (t.outcome, t.difference) for t in versus.tasks} == {
        "x": ("win", 10.0),
        "y": ("tie", 0.0),
        "z": ("loss", -0.5),
    }
    group = versus.overall
    assert (group.wins, group.ties, group.losses, group.decided) == (1, 1, 1, 2)
    assert (group.share.value, group.share_decided.value) == (1 / 3, 1 / 2)
    assert group.difference.value == pytest.approx(9.5 / 3)
    assert (group.control, group.other) == (pytest.approx((20 + 5 + 8) / 3), pytest.approx((30 + 5 + 7.5) / 3))


def test_a_task_counts_once_however_many_instances_it_has() -> None:
    group = compared({"x": [0.0] * 50, "y": [0.0]}, {"x": [1.0] * 50, "y": [-0.0]}).against[0].overall
    assert (group.wins, group.ties, group.difference.value) == (1, 1, 0.5)


def test_tasks_come_with_the_largest_gain_first_and_categories_hold_all_of_them() -> None:
    versus = compared(
        {"x1": [1], "x2": [2], "y1": [3], "y2": [4]}, {"x1": [0], "x2": [9], "y1": [4], "y2": [4]}
    ).against[0]
    assert [task.name for task in versus.tasks] == ["x2", "y1", "y2", "x1"]
    assert [(g.name, g.wins, g.ties, g.losses) for g in versus.categories] == [("X", 1, 0, 1), ("Y", 1, 1, 0)]


@pytest.mark.parametrize(
    ("metric", "won"), [("rouge_l", {"x1", "y1"}), ("exact_match", {"x2", "y2"}), ("official", {"x2", "y1"})]
)
def test_the_metric_decides_and_the_official_one_goes_by_category(metric: str, won: set[str]) -> None:
    names = ("x1", "x2", "y1", "y2")
    control = evaluation({n: [50.0] for n in names}, exact={n: [0.0] for n in names})
    rouge, exact = {n: [50.0 + 9 * (n[1] == "1")] for n in names}, {n: [100.0 * (n[1] == "2")] for n in names}
    found = compare_evaluations(control, [evaluation(rouge, "B", exact=exact)], metric)
    assert {task.name for task in found.against[0].tasks if task.outcome == "win"} == won


def test_a_category_without_an_official_metric_is_scored_by_rouge_l() -> None:
    control, other = evaluation({"q": [1.0]}), evaluation({"q": [2.0]}, "B")
    assert compare_evaluations(control, [other], "official").against[0].tasks[0].metric == "rouge_l"


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(ValueError, match="bleu"):
        compare_evaluations(evaluation({"x": [1.0]}), [], "bleu")


# -- what can be compared ------------------------------------------------------------------------------


def test_instances_that_one_side_alone_has_are_left_out_and_counted() -> None:
    versus = compared({"x": [1, 2, 3], "y": [1]}, {"x": [1, 2], "z": [5, 5]}).against[0]
    assert [(task.name, task.instances) for task in versus.tasks] == [("x", 2)]
    pairing = versus.pairing
    assert (pairing.instances, pairing.only_control, pairing.only_other) == (2, 2, 2)


def test_evaluations_without_a_common_instance_are_refused() -> None:
    with pytest.raises(UsageError, match="A and B have no instance in common"):
        compared({"x": [1]}, {"y": [1]})


def test_an_instance_that_stands_twice_is_refused() -> None:
    once = evaluation({"x": [1.0]}, "B")
    twice = dataclasses.replace(once, name="A", rows=[*once.rows, *once.rows])
    with pytest.raises(UsageError, match="A, prediction 2: the id 'x-0' of x is used before"):
        compare_evaluations(twice, [once])


def test_settings_that_decide_scores_must_agree_or_be_allowed_to_differ() -> None:
    control, other = evaluation({"x": [1.0]}), evaluation({"x": [2.0]}, "B", shots=2, cut="none")
    with pytest.raises(UsageError) as caught:
        compare_evaluations(control, [other])
    assert 'shots 0 against 2; cut "line" against "none"' in str(caught.value)
    assert "\n" not in str(caught.value)
    found = compare_evaluations(control, [other], allow_different=True)
    assert found.against[0].pairing.different == {"shots": (0, 2), "cut": ("line", "none")}
    assert any("shots 0 against 2" in note for note in notes(found.against[0], found))


def test_a_setting_of_many_lines_is_told_on_one() -> None:
    control, other = evaluation({"x": [1.0]}, prompt="Q:\n\nA: "), evaluation({"x": [1.0]}, prompt="Q:\n\n" * 90)
    with pytest.raises(UsageError) as caught:
        compare_evaluations(control, [other])
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_whose_answers_they_are_and_how_many_is_no_difference_in_settings() -> None:
    assert settings_apart({"model": "a", "weights": "x", "instances": 5}, {"model": "b", "instances": 9}) == ({}, ())


def test_a_setting_that_one_side_does_not_tell_is_said_and_refuses_nothing() -> None:
    control, other = evaluation({"x": [1.0]}), evaluation({"x": [2.0]}, "B", template="chat")
    found = compare_evaluations(control, [other])
    assert found.against[0].pairing.unsaid == ("template",)
    assert any("template" in note for note in notes(found.against[0], found))


def test_missing_predictions_are_told() -> None:
    control, other = evaluation({"x": [1.0, 2.0]}), evaluation({"x": [0.0, 2.0]}, "B")
    rows = [dataclasses.replace(other.rows[0], missing=True), other.rows[1]]
    found = compare_evaluations(control, [dataclasses.replace(other, rows=rows)])
    assert found.against[0].pairing.missing_other == 1
    assert any("Without a prediction" in note for note in notes(found.against[0], found))


# -- laws ----------------------------------------------------------------------------------------------

scores = st.dictionaries(
    st.sampled_from([f"{c}{i}" for c in "xyz" for i in range(5)]),
    st.lists(st.sampled_from([0.0, 12.5, 33.3, 100 / 3, 50.0, 100.0]), min_size=2, max_size=2),
    min_size=1,
)


@given(scores)
def test_an_evaluation_against_itself_ties_on_all_and_nothing_is_nan(drawn: Scores) -> None:
    found = compared(drawn, drawn)
    group = found.against[0].overall
    assert (group.wins, group.losses, group.ties) == (0, 0, len(drawn))
    assert (group.sign_p, group.wilcoxon_p, group.difference.value) == (1.0, 1.0, 0.0)
    json.dumps(as_dict(found), allow_nan=False)


@given(scores, st.randoms(use_true_random=False))
def test_swapped_sides_swap_the_outcome(drawn: Scores, chance: random.Random) -> None:
    other = {task: [chance.choice([0.0, 12.5, 50.0, 100.0]) for _ in values] for task, values in drawn.items()}
    there, back = (compared(*sides).against[0].overall for sides in ((drawn, other), (other, drawn)))
    assert (there.wins, there.ties, there.losses) == (back.losses, back.ties, back.wins)
    assert there.difference.value == -back.difference.value
    assert there.sign_p == back.sign_p
    assert there.wilcoxon_p == pytest.approx(back.wilcoxon_p, rel=1e-9)
    json.dumps(as_dict(compared(drawn, other)), allow_nan=False)


def test_the_rows_order_decides_nothing() -> None:
    chance = random.Random(1)
    drawn = {f"{c}{i}": [100 * chance.random() for _ in range(4)] for c in "xy" for i in range(8)}
    changed = {task: [100 * chance.random() for _ in values] for task, values in drawn.items()}
    control, other = evaluation(drawn), evaluation(changed, "B")
    shuffled = [dataclasses.replace(e, rows=chance.sample(list(e.rows), len(e.rows))) for e in (control, other)]
    assert compare_evaluations(control, [other], seed=3) == compare_evaluations(shuffled[0], shuffled[1:], seed=3)


# -- what may be concluded -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wins", "losses", "ties", "expected"),
    [
        (30, 10, 60, "win"),
        (10, 30, 0, "loss"),
        (22, 18, 5, "undecided"),
        (5, 0, 95, "too few"),
        (6, 0, 0, "win"),
        (0, 0, 9, "ties"),
        (0, 1, 0, "too few"),
    ],
)
def test_a_side_is_named_better_only_where_the_sign_test_decides(
    wins: int, losses: int, ties: int, expected: str
) -> None:
    found = decided(wins, losses, ties)
    assert verdict(found.against[0].overall) == expected
    sentence = conclusion(found.against[0], "A", metric="rouge_l")
    assert sentence.endswith(".")
    assert ". " not in sentence.replace("p = 0.", "").replace("95 %", "")
    says = {
        "win": "wins more often than it loses",
        "loss": "wins less often than it loses",
        "undecided": "is not shown, and neither is it that they are equal",
        "too few": "too few are decided to conclude anything",
        "ties": "nothing can be concluded",
    }
    assert [kind for kind, words in says.items() if words in sentence] == [expected]


def test_the_sentence_gives_share_counts_interval_and_what_it_does_not_say() -> None:
    sentence = conclusion(decided(30, 10, 60).against[0], "A", metric="rouge_l")
    assert "B scores higher than A in ROUGE-L on 75 % of the decided tasks (30 of 40; 60 ties apart)" in sentence
    assert "95 % interval 60 to 86 %, which excludes 50 %, sign test p = 0.002" in sentence
    assert "another seed" in sentence


def test_between_the_two_tests_nothing_is_shown() -> None:
    # Of 16 tasks 12 are won: Wilson's interval begins at 0.505, the exact p-value is 0.077.
    found = decided(12, 4)
    interval = found.against[0].overall.share_decided.wilson
    assert interval is not None
    assert interval[0] > 0.5
    assert found.against[0].overall.sign_p > 0.05
    assert verdict(found.against[0].overall) == "undecided"
    assert "the exact test doesn't exclude chance" in conclusion(found.against[0], "A", metric="rouge_l")


@pytest.mark.parametrize(
    ("share", "shown"),
    [
        (0.0, "0 %"),
        (0.5, "50 %"),
        (1.0, "100 %"),
        (0.634, "63 %"),
        (0.5016, "50.2 %"),
        (0.50012, "50.01 %"),
        (0.999, "99.9 %"),
    ],
)
def test_a_share_reads_as_none_half_or_all_only_where_it_is(share: float, shown: str) -> None:
    assert percent(share) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(0.0, "0"), (1.234, "+1.23"), (-0.5, "−0.50"), (0.004, "+0.004"), (-0.00012, "−0.0001")]
)
def test_a_difference_reads_as_none_only_where_it_is(value: float, shown: str) -> None:
    assert points(value) == shown


def test_a_mean_that_points_the_other_way_is_said() -> None:
    found = decided(40, 12, gain=0.5, loss=20.0)
    assert verdict(found.against[0].overall) == "win"
    assert "the rarer outcome outweighs the more frequent one" in notes(found.against[0], found)[0]


def test_a_clear_mean_beside_an_undecided_count_is_said() -> None:
    found = decided(14, 12, gain=30.0, loss=1.0)
    assert "though the count of tasks decides nothing" in notes(found.against[0], found)[0]


def test_a_win_that_other_instances_may_turn_is_said_to_be_so() -> None:
    # On each task five instances of six stay, one moves by so much that its mean decides: drawn anew, many tasks turn.
    control = {f"t{place}": [50.0] * 6 for place in range(30)}
    moved = {task: [52.0, 52.0, 52.0, 52.0, 52.0, 45.0] for task in list(control)[:21]}
    other = {task: moved.get(task, [48.0] * 6) for task in control}
    found = compared(control, other)
    assert verdict(found.against[0].overall) == "win"
    assert any("contains 50 %: more instances" in note for note in notes(found.against[0], found))
    steady = decided(21, 9)
    assert not any("more instances" in note for note in notes(steady.against[0], steady))


def test_tasks_that_single_instances_decide_are_said_to_be_so() -> None:
    control = {f"t{place}": [40.0] * 6 for place in range(60)}
    other = {task: [40.0] * 5 + [50.0 if place < 40 else 40.0] for place, task in enumerate(control)}
    found = compared(control, other)
    assert any("single instances decide many of them" in note for note in notes(found.against[0], found))
    steady = decided(40, 0, 20)
    assert not any("single instances" in note for note in notes(steady.against[0], steady))


def test_few_tasks_are_said_to_make_the_bootstrap_too_narrow() -> None:
    told = [any("too narrow" in note for note in notes(f.against[0], f)) for f in (decided(4, 6), decided(12, 12))]
    assert told == [True, False]


def test_several_comparisons_with_one_control_are_said_not_to_be_corrected() -> None:
    control = evaluation({"x": [1.0]})
    found = compare_evaluations(control, [evaluation({"x": [2.0]}, name) for name in "BC"])
    assert all(any("one of 2 comparisons" in note for note in notes(v, found)) for v in found.against)
    assert [v.name for v in found.against] == ["B", "C"]


def test_json_holds_every_figure_as_a_number_or_null() -> None:
    shown = as_dict(decided(30, 10, 2))
    one = shown["against"][0]
    assert (shown["control"], shown["metric"], one["name"], one["verdict"]) == ("A", "rouge_l", "B", "win")
    assert one["overall"]["share"]["value"] == pytest.approx(30 / 42)
    assert {t["outcome"] for t in one["tasks"]} == {"win", "tie", "loss"}
    low, high = one["overall"]["difference"]["bootstrap"]["instances"]
    assert low < one["overall"]["difference"]["value"] < high
    assert math.isclose(one["overall"]["sign_p"], 0.00222, rel_tol=0.01)
