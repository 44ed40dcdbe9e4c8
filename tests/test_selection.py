"""Promises of what stages choose: the best instances, the held-out seeds, the instructions of an iteration."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refine_af.config import load_config
from refine_af.engines.base import Completion
from refine_af.errors import UsageError
from refine_af.progress import Silent
from refine_af.records import Instance, Instruction, SeedTask
from refine_af.seeds import choose_held_out, load_seeds
from refine_af.stages.candidates import batches, select_best
from refine_af.stages.context import Context
from refine_af.stages.instances import _drop_contaminated, _drop_contradictions
from refine_af.stages.instructions import run_instructions
from refine_af.stages.pairs import distinct_bigrams
from refine_af.stages.rollouts import drawn as draw
from refine_af.stages.seeds import run_seeds
from refine_af.store import Store


def instance(id: str, instruction_id: str, reward: float | None) -> Instance:
    return Instance(id, instruction_id, "", f"out {id}", "m", "tuned", reward)


def instruction(id: str, classification: bool | None = None) -> Instruction:
    return Instruction(id, f"Do {id}", classification, "generated", 1, "m", (), None, None, "kept")


def chosen(rows: list[tuple[str, str, float | None]], count: int = 1, floor: float | None = None) -> list[str]:
    return [i.id for i in select_best([instance(*row) for row in rows], count, floor)]


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
    instances = [instance(str(i), name, reward) for i, (name, reward) in enumerate(rows)]
    selected = select_best(instances, count)
    assert Counter(i.instruction_id for i in selected) == {
        name: min(count, n) for name, n in Counter(name for name, _ in rows).items()
    }
    for out in (i for i in instances if i not in selected):
        assert all(s.reward >= out.reward for s in selected if s.instruction_id == out.instruction_id)  # type: ignore[operator]


@given(st.lists(st.sampled_from([True, False, None]), max_size=20), st.integers(1, 4), st.integers(1, 9))
def test_batches_hold_every_candidate_once_and_one_kind_each(
    kinds: list[bool | None], candidates: int, at_once: int
) -> None:
    instructions = [instruction(str(i), kind) for i, kind in enumerate(kinds)]
    made = list(batches(instructions, candidates, at_once))
    assert Counter(i.id for b in made for i in b) == {i.id: candidates for i in instructions}
    assert all(len({bool(i.is_classification) for i in b}) == 1 for b in made)
    assert all(len(b) <= max(4 * at_once, candidates) for b in made)


def test_contradictions_count_among_as_many_of_the_best_as_there_are_candidates_without_best_of_n(
    tmp_path: Path,
) -> None:
    config = load_config(overrides=["instances.candidates=2", "policy.algorithm=best_of_n"])
    rows = [
        ("a", "x", "1", 0.9),
        ("a", "y", "1", 0.8),
        ("a", "x", "2", 0.1),
        ("b", "x", "1", 0.9),
        ("b", "x", "2", 0.8),
    ]
    with Store(tmp_path / "run.db") as store:
        store.add_instructions([instruction("a"), instruction("b")])
        store.add_instances(
            Instance(f"{id}{place}", id, read, written, "m", "initial", reward)
            for place, (id, read, written, reward) in enumerate(rows)
        )
        _drop_contradictions(Context(config, store, tmp_path, cast(Any, None), Silent()), "initial")
        assert [i.instruction_id for i in store.instances()] == ["a"] * 3
        assert store.rejection_reasons("instances") == {"one input, two outputs": 2}


def test_pairs_that_repeat_a_held_out_seed_are_dropped_with_what_they_repeat(tmp_path: Path) -> None:
    asked = "The old mill by the river burned down last winter"
    with Store(tmp_path / "run.db") as store:
        held_out = Instruction("s", "Find the place", False, "seed", 0, "people", (), None, None, "held_out")
        store.add_instructions([held_out, instruction("a")])
        store.add_instances(
            [
                Instance("s1", "s", asked, "the mill", "people", "seed"),
                Instance("a1", "a", asked, "a mill", "m", "tuned", 0.5),
                Instance("a2", "a", "A boat on the lake", "a boat", "m", "tuned", 0.1),
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
    return tuple(SeedTask(f"{i:03}", f"Do {i}", "", "x", i < classification) for i in range(classification + other))


@given(st.integers(0, 12), st.integers(0, 12), st.floats(0, 1), st.integers(0, 5))
def test_the_share_is_taken_of_each_kind(classification: int, other: int, share: float, seed: int) -> None:
    tasks = seeds(classification, other)
    if round(share * classification) + round(share * other) == len(tasks):
        with pytest.raises(UsageError, match="leaves none"):
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


# -- new instructions ----------------------------------------------------------------------------------


class Repeating:
    """An engine that always continues a list with the same two items."""

    name, model = "fake", "fake"

    def generate(self, groups: Any, sampling: Any, *, seed: int, stop: Any = ()) -> list[list[Completion]]:
        same = Completion(" Describe an old harbour town.\n10. Explain tides to sailors.", (1,), True)
        return [[same] * len(one.suffixes) for one in groups]

    def log_probs(self, texts: Any) -> list[Any]:
        return [np.zeros(1)] * len(texts)


@pytest.mark.parametrize("threshold", [0.7, 1.0])
def test_an_instruction_is_kept_once_however_often_it_is_written(tmp_path: Path, threshold: float) -> None:
    config = load_config(overrides=[f"instructions.novelty_threshold={threshold}", "instructions.prompts_per_round=3"])
    engine = Repeating()
    parts: Any = SimpleNamespace(
        initial_engine=engine, adapted_engine=lambda adapter: nullcontext(engine), dialect=SimpleNamespace(beginning="")
    )
    with Store(tmp_path / "run.db") as store:
        context = Context(config, store, tmp_path, parts, Silent())
        for stage in ("seeds", "instructions"):
            store.start_stage(stage)
        run_seeds(context)
        run_instructions(context)
        generated = store.instructions(origin="generated")
        assert [i.text for i in generated] == ["Describe an old harbour town.", "Explain tides to sailors."]
        row = store.query("SELECT read, kept, rejected FROM stages WHERE name = 'instructions'")[0]
        assert row["read"] == row["kept"] + row["rejected"] == 6 * 6
        assert set(store.rejection_reasons("instructions")) == {"not novel"}
