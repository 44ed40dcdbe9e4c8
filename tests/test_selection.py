"""Promises of what stages choose: the best instances, the held-out seeds, the instructions of an iteration."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, cast

import pytest
from example_rows import instance, instruction, seed, task
from hypothesis import given
from hypothesis import strategies as st

from refine_af.config import load_config
from refine_af.errors import UsageError
from refine_af.progress import Silent
from refine_af.records import SeedTask
from refine_af.seeds import choose_held_out, load_seeds
from refine_af.stages.candidates import batches, select_best
from refine_af.stages.context import Context
from refine_af.stages.instances import _drop_contaminated
from refine_af.stages.pairs import distinct_bigrams
from refine_af.stages.rollouts import drawn as draw
from refine_af.store import Store


def chosen(rows: list[tuple[str, str, float | None]], count: int = 1, floor: float | None = None) -> list[str]:
    made = [instance(id, instruction_id, reward=reward) for id, instruction_id, reward in rows]
    return [i.id for i in select_best(made, count, floor)]


# -- the best instances --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "count", "floor", "expected"),
    [
        ([], 1, None, []),
        ([("1", "a", 0.1), ("2", "a", 0.3), ("3", "a", 0.2)], 1, None, ["2"]),
        ([("1", "a", 0.1), ("2", "a", 0.3), ("3", "a", 0.2)], 2, None, ["2", "3"]),
        ([("1", "a", 0.1), ("2", "a", 0.3)], 5, None, ["2", "1"]),
        ([("1", "a", 0.3), ("2", "b", 0.1), ("3", "a", 0.4)], 1, None, ["3", "2"]),
        ([("1", "a", 0.5), ("2", "a", 0.5), ("3", "a", 0.5)], 2, None, ["1", "2"]),  # ties: the earlier
        ([("1", "a", -3.0), ("2", "a", -2.0)], 1, None, ["2"]),
        ([("1", "a", 0.1), ("2", "a", 0.3), ("3", "b", 0.1)], 2, 0.2, ["2"]),
        ([("1", "a", 0.2)], 1, 0.2, ["1"]),  # the minimum itself is enough
        ([("1", "a", None)], 1, 0.0, []),
        ([("1", "a", None), ("2", "a", -2.0)], 1, None, ["2"]),  # judged beats never judged
    ],
)
def test_the_best_of_each_instruction_are_selected(
    rows: list[tuple[str, str, float | None]], count: int, floor: float | None, expected: list[str]
) -> None:
    assert chosen(rows, count, floor) == expected


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(-3, 3)), max_size=12), st.integers(1, 5))
def test_nothing_left_out_beats_anything_selected_of_its_instruction(rows: list[tuple[str, float]], count: int) -> None:
    instances = [instance(str(i), name, reward=reward) for i, (name, reward) in enumerate(rows)]
    selected = select_best(instances, count)
    assert Counter(i.instruction_id for i in selected) == {
        name: min(count, n) for name, n in Counter(name for name, _ in rows).items()
    }
    for out in (i for i in instances if i not in selected):
        assert all(s.reward >= out.reward for s in selected if s.instruction_id == out.instruction_id)  # type: ignore[operator]


def test_what_is_not_sound_is_never_selected_whatever_its_reward() -> None:
    rows = [instance("1", reward=9.0, sound=False), instance("2", reward=-5.0), instance("3", "b", sound=False)]
    assert [i.id for i in select_best(rows, 5)] == ["2"]


@pytest.mark.parametrize(
    ("rows", "count", "expected"),
    [
        ([("x", "1", 0.1), ("x", "2", 0.9)], 2, [("x", "2")]),
        ([("x", "1", 0.9), ("y", "1", 0.5), ("x", "2", 0.8)], 2, [("x", "1"), ("y", "1")]),
        ([("", "1", 0.9), ("", "2", 0.8)], 2, [("", "1"), ("", "2")]),  # without an input every answer may differ
    ],
)
def test_of_one_input_with_two_outputs_the_better_one_is_taken_and_the_place_goes_to_another(
    rows: list[tuple[str, str, float]], count: int, expected: list[tuple[str, str]]
) -> None:
    made = [instance(str(i), input=read, output=out, reward=reward) for i, (read, out, reward) in enumerate(rows)]
    assert [(i.input, i.output) for i in select_best(made, count)] == expected


Candidates = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from(["", "x", "y"]), st.integers(-3, 3), st.booleans()), max_size=12
)


@given(Candidates, st.integers(1, 5), st.none() | st.integers(-3, 3))
def test_what_is_selected_is_sound_has_each_input_once_and_what_is_left_out_is_no_better(
    rows: list[tuple[str, str, int, bool]], count: int, floor: int | None
) -> None:
    made = [
        instance(str(n), of, input=read, reward=float(reward), sound=sound)
        for n, (of, read, reward, sound) in enumerate(rows)
    ]
    selected = select_best(made, count, floor)
    able = [i for i in made if i.sound and (floor is None or (i.reward or 0.0) >= floor)]
    assert set(selected) <= set(able)
    for of in "ab":
        mine = [i for i in selected if i.instruction_id == of]
        inputs = [i.input for i in mine if i.input]
        assert len(inputs) == len(set(inputs))
        assert len(mine) <= count
        for out in (i for i in able if i.instruction_id == of and i not in mine):
            better = [i for i in mine if (i.reward or 0.0) >= (out.reward or 0.0)]
            assert len(better) == count or out.input in {i.input for i in better if i.input}


@given(st.lists(st.sampled_from([True, False, None]), max_size=20), st.integers(1, 4), st.integers(1, 9))
def test_batches_hold_every_candidate_once_in_the_instructions_order(
    kinds: list[bool | None], candidates: int, at_once: int
) -> None:
    instructions = [instruction(str(i), is_classification=kind) for i, kind in enumerate(kinds)]
    made = list(batches(instructions, candidates, at_once))
    assert [i for b in made for i in b] == [i for i in instructions for _ in range(candidates)]
    assert all(len(b) <= max(4 * at_once, candidates) for b in made)


def test_pairs_that_repeat_a_held_out_seed_are_dropped_with_what_they_repeat(tmp_path: Path) -> None:
    asked = "The old mill by the river burned down last winter"
    with Store(tmp_path / "run.db") as store:
        held_out = seed("s", text="Find the place", is_classification=False, status="held_out")
        store.add_instructions([held_out, instruction("a")])
        store.add_instances(
            [
                instance("s1", "s", input=asked, output="the mill", policy="seed"),
                instance("a1", "a", input=asked, output="a mill", reward=0.5),
                instance("a2", "a", input="A boat on the lake", output="a boat", reward=0.1),
            ]
        )
        context = Context(load_config(), store, tmp_path, cast(Any, None), Silent())
        for _ in range(2):  # a process that is killed behind it does it again
            _drop_contaminated(context, "tuned")
        assert [i.id for i in store.instances()] == ["s1", "a2"]
        (row,) = store.query("SELECT * FROM rejections")
        assert row["reason"] == "matches an evaluation task"
        assert row["detail"] == "tuned: ROUGE-L 1.000 to the input of Find the place"


# -- held-out seeds ------------------------------------------------------------------------------------


def seeds(classification: int, other: int) -> tuple[SeedTask, ...]:
    return tuple(
        task(f"Do {i}", id=f"{i:03}", is_classification=i < classification) for i in range(classification + other)
    )


@given(st.integers(0, 12), st.integers(0, 12), st.floats(0, 1), st.integers(0, 5))
def test_the_share_is_taken_of_each_kind(classification: int, other: int, share: float, seed: int) -> None:
    tasks = seeds(classification, other)
    if round(share * classification) + round(share * other) == len(tasks):
        with pytest.raises(UsageError, match="takes all"):
            choose_held_out(tasks, share, seed)
        return
    held = choose_held_out(tasks, share, seed)
    assert sum(t.id in held for t in tasks if t.is_classification) == round(share * classification)
    assert sum(t.id in held for t in tasks if not t.is_classification) == round(share * other)


def test_the_choice_depends_on_seed_and_tasks_and_never_on_their_order() -> None:
    tasks = load_seeds(None).tasks
    held = choose_held_out(tasks, 0.2, 0)
    assert held == choose_held_out(tasks[::-1], 0.2, 0)
    assert held != choose_held_out(tasks, 0.2, 1)
    assert held < choose_held_out(tasks, 0.4, 0)  # a larger share holds out more of the same


def test_none_can_be_held_out() -> None:
    assert choose_held_out(seeds(4, 6), 0.0, 0) == set()


# -- an iteration's instructions -----------------------------------------------------------------------


@given(st.integers(1, 9), st.integers(1, 12), st.integers(0, 3))
def test_every_instruction_is_drawn_once_before_any_is_drawn_twice(size: int, count: int, seed: int) -> None:
    train = [instruction(str(i)) for i in range(size)]
    drawn = [i.id for iteration in range(1, 13) for i in draw(train, count, seed, iteration)]
    assert len(drawn) == 12 * count
    for start in range(0, len(drawn) - size + 1, size):
        assert sorted(drawn[start : start + size]) == sorted(i.id for i in train)


def test_turns_differ_and_an_iteration_can_be_drawn_again_by_itself() -> None:
    train = [instruction(str(i)) for i in range(20)]
    turns = [[i.id for i in draw(train, 20, 0, iteration)] for iteration in (1, 2, 3)]
    assert len({tuple(t) for t in turns}) == 3
    assert [i.id for i in draw(train, 20, 0, 2)] == turns[1]
    assert [i.id for i in draw(train, 20, 1, 1)] != turns[0]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([], 0.0),
        (["word", ""], 0.0),
        (["a b"], 1.0),
        (["a b", "a b"], 0.5),
        (["A b!", "a, B"], 0.5),
        (["a b a b"], 2 / 3),
        (["a b c", "a b d"], 3 / 4),  # no bigram reaches over two texts
        (["a b", "c", "d e"], 1.0),
    ],
)
def test_distinct_bigrams_are_the_share_of_different_ones(texts: list[str], expected: float) -> None:
    assert distinct_bigrams(texts) == pytest.approx(expected)
