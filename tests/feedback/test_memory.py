"""Promises of the memory of scores: nothing is scored twice, nothing stale is used, a batch is kept whole or not."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refine_af.errors import RefineError
from refine_af.feedback.base import Better, Cost, Example
from refine_af.feedback.composite import Component, Composite, Gate
from refine_af.feedback.memory import Remembered, remembered
from refine_af.store import Store


class Length:
    """Characters of the output; keeps what it was asked."""

    low, high = 0.0, math.inf
    better: Better = "high"
    cost: Cost = "rules"

    def __init__(self, name: str = "length", identity: str | None = "1", factor: float = 1.0) -> None:
        self.name = name
        self.identity = identity
        self.asked: list[list[str]] = []
        self._factor = factor

    def score(self, examples: Sequence[Example]) -> list[float]:
        self.asked.append([e.output for e in examples])
        return [self._factor * len(e.output) if e.output != "bad" else math.nan for e in examples]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "run.db") as opened:
        yield opened


def pairs(*outputs: str) -> list[Example]:
    return [Example("Say it", "", output) for output in outputs]


def test_only_what_is_new_is_scored_and_each_example_once(store: Store) -> None:
    scorer = Length()
    memory = remembered(scorer, store)
    assert memory.score(pairs("a", "bb", "a")) == [1.0, 2.0, 1.0]
    assert memory.score(pairs("bb", "ccc", "a", "ccc")) == [2.0, 3.0, 1.0, 3.0]
    assert scorer.asked == [["a", "bb"], ["ccc"]]


def test_another_process_finds_what_was_scored(tmp_path: Path) -> None:
    with Store(tmp_path / "run.db") as store:
        remembered(Length(), store).score(pairs("a", "bb"))
    with Store(tmp_path / "run.db") as store:
        scorer = Length()
        assert remembered(scorer, store).score(pairs("bb", "a")) == [2.0, 1.0]
        assert scorer.asked == []


@pytest.mark.parametrize("other", [Length(name="size"), Length(identity="2")])
def test_another_scorer_or_another_revision_is_scored_anew(store: Store, other: Length) -> None:
    remembered(Length(factor=100), store).score(pairs("a"))
    assert remembered(other, store).score(pairs("a")) == [1.0]


@pytest.mark.parametrize(
    "other",
    [Example("Say that", "", "a"), Example("Say it", "b", "a"), Example("Say it", "", "aa"), Example("", "", "a")],
)
def test_another_pair_is_scored_anew(store: Store, other: Example) -> None:
    scorer = Length()
    memory = remembered(scorer, store)
    memory.score(pairs("a"))
    memory.score([other])
    assert len(scorer.asked) == 2


def test_a_scorer_without_an_identity_is_not_remembered(store: Store) -> None:
    scorer = Length(identity=None)
    assert remembered(scorer, store) is scorer


def test_a_memory_of_a_memory_is_the_memory(store: Store) -> None:
    memory = remembered(Length(), store)
    assert isinstance(memory, Remembered)
    assert remembered(memory, store) is memory


def test_a_batch_with_a_failure_leaves_nothing_behind(store: Store) -> None:
    scorer = Length()
    memory = remembered(scorer, store)
    with pytest.raises(RefineError, match="returned nan for the output 'bad'"):
        memory.score(pairs("a", "bad", "ccc"))
    memory.score(pairs("a", "ccc"))
    assert scorer.asked[-1] == ["a", "ccc"]


def test_more_examples_than_a_statement_has_places_for(store: Store) -> None:
    memory = remembered(Length(), store)
    many = pairs(*("x" * n for n in range(1, 1301)))
    assert memory.score(many) == memory.score(many) == [float(n) for n in range(1, 1301)]


def test_a_reward_with_a_memory_is_the_same_reward(store: Store) -> None:
    length = Length()
    plain = Composite("f", [Component(length, 0.5, mean=2, spread=3)], floor=-9, gates=[Gate(length, 2.0, cap=-1.0)])
    kept = plain.remembering(store)
    examples = pairs("a", "bb", "", "ccc")
    expected = plain.judge(examples)
    asked = len(length.asked)
    assert kept.judge(examples) == kept.judge(examples) == expected
    assert len(length.asked) == asked + 1


@given(st.lists(st.lists(st.text(max_size=4), max_size=6), max_size=5))
def test_values_are_those_of_the_scorer_whatever_was_asked_before(batches: list[list[str]]) -> None:
    with Store(Path(":memory:")) as store:
        memory = remembered(Length(), store)
        for outputs in batches:
            examples = [Example("Say it", "", text.replace("bad", "")) for text in outputs]
            assert memory.score(examples) == Length().score(examples)
