"""Promises of the stage that writes the pairs: every completion is counted, none that is unsound gets into the data
set, and where none is left it is told why."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from example_rows import instruction
from test_pair_writer import FLOOR, SEEDS, Scripted, Words, by_kind, context_of

from refine_af.errors import RefineError
from refine_af.feedback.composite import Component, Composite, Gate
from refine_af.filters import HOLLOW
from refine_af.stages.context import Context
from refine_af.stages.instances import run_instances
from refine_af.store import Store

CONTROL = ("policy.algorithm=none", "instances.candidates=2")


pytestmark = pytest.mark.usefixtures("any_set_is_shown")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "run.db") as opened:
        yield opened


def run(store: Store, engine: Scripted, *overrides: str, feedback: Composite | None = None) -> Context:
    context = context_of(store, SEEDS, *CONTROL, *overrides)
    parts: Any = context.parts
    parts.adapted_engine = lambda adapter: nullcontext(engine)
    if feedback is not None:
        parts.feedback = lambda pairs, memory: feedback
    store.start_stage("instances")
    run_instances(context)
    return context


def lines(store: Store) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (store.path.parent / "dataset/train.jsonl").read_text().splitlines()]


def gated(minimum: float, cap: float = FLOOR) -> Composite:
    words: Any = Words()
    return Composite("words", [Component(words, 1.0)], floor=FLOOR, gates=[Gate(words, minimum, cap=cap)])


def test_each_kind_of_instruction_has_its_pair_and_every_text_is_counted(store: Store) -> None:
    run(store, Scripted(by_kind()))
    found = {row["instruction"]: (row["input"], row["output"]) for row in lines(store)}
    assert found == {
        "Sing to me.": ("", "smooth now"), "Polish this stone.": ("rough", "smooth now"),
        "Is it warm?": ("a mild wind", "yes"), "Is it late?": ("", "smooth now"),
    }  # fmt: skip
    (row,) = store.query("SELECT * FROM stages")
    assert (row["read"], row["kept"], row["rejected"]) == (8, 4, 4), "two candidates that are the same are one"
    assert store.rejection_reasons("instances") == {"duplicate": 4}


def test_what_fails_a_gate_is_kept_as_a_row_and_never_gets_into_the_data_set(store: Store) -> None:
    run(store, Scripted(by_kind()), feedback=gated(minimum=2.0, cap=9.0))
    unsound = [i for i in store.instances(policy="initial") if not i.sound]
    assert [i.output for i in unsound] == ["yes"], "one word"
    assert "Is it warm?" not in {row["instruction"] for row in lines(store)}
    assert [row["instruction_id"] for row in lines(store)] == ["open", "given", "no input"]
    assert store.metric("instances", "unsound") == [(0, 1.0)]
    assert store.metric("instances", "instructions_without_a_pair") == [(0, 1.0)]


@pytest.mark.parametrize(
    ("says", "overrides", "feedback", "told"),
    [
        (
            {"answer": ("half", False), "input": ("ha", False), "label": ("ye", False)}, (), None,
            "8 fell to the rule 'cut by length': raise instances.sampling.max",
        ),
        (
            {}, (), gated(minimum=5.0),
            "the reward judged 4 unusable: use a larger model.name, more instances.candidates, or another",
        ),
        ({}, ("instances.min_reward=9",), None, "4 are below instances.min_reward: lower instances.min_reward"),
        ({"answer": "", "label": "", "input": ""}, (), None, "6 fell to the rule 'empty output': use a larger model"),
    ],
)  # fmt: skip
def test_where_no_pair_is_selected_the_rule_that_took_most_is_named_with_its_cure(
    store: Store, says: dict[str, Any], overrides: tuple[str, ...], feedback: Composite | None, told: str
) -> None:
    with pytest.raises(RefineError, match="no pair was selected; main reason: ") as caught:
        run(store, Scripted(by_kind(**says)), *overrides, feedback=feedback)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not store.stage_done("instances")


def test_hollow_pairs_are_told_with_what_gives_them_an_input(store: Store) -> None:
    store.add_instructions(
        instruction(f"h{n}", text=f"Summarise the following text in {n} words.", needs_input=False) for n in range(9)
    )
    with pytest.raises(RefineError) as caught:
        run(store, Scripted(by_kind(answer="smooth now and here")), "instances.min_reward=99")
    assert f"18 fell to the rule {HOLLOW!r}: set instances.inputs to auto or always" in str(caught.value)
