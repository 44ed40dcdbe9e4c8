"""Promises of the kinds of instructions: the user's word first, then what the seeds leave open, then what is learned
from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from example_rows import instance, seed, task

from refine_af.config import load_config
from refine_af.progress import Silent
from refine_af.records import SeedTask
from refine_af.stages import kinds
from refine_af.stages.context import Context
from refine_af.stages.kinds import Kinds
from refine_af.store import Store

# Those with an input speak of clay, those with labels of doubt.
OPEN = [task(f"Sing song {i} aloud") for i in range(6)]
GIVEN = [task(f"Bake clay {i} hard", "a lump", "done") for i in range(6)]
LABELLED = [task(f"In doubt {i} say so", "a lump", "yes", is_classification=True) for i in range(6)]
POINTS = "Summarise the following text."


class Encoder:
    """Two sentences are alike where both speak of clay, or of doubt."""

    asked = 0

    def embed(self, texts: Sequence[str]) -> Any:
        self.asked += 1
        return np.array([[("clay" in t) - 0.5, ("doubt" in t) - 0.5] for t in texts], dtype=np.float32)


class Engine:
    """Says Yes a little more where it should, and always more than No, as small models do."""

    def log_probs(self, texts: Sequence[tuple[str, str]]) -> list[Any]:
        return [np.array([self._of(prompt, answer), -0.5]) for prompt, answer in texts]

    def _of(self, prompt: str, answer: str) -> float:
        last = prompt.rpartition("Task: ")[2]
        right = "clay" in last or "doubt" in last if last.endswith("input:") else "doubt" in last
        return -3.0 if answer == " No" else (-1.0 if right else -1.5)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "run.db") as opened:
        yield opened


def kinds_of(
    store: Store, seeds: Sequence[SeedTask], parts: Any = None, inputs: str = "auto", language: str = "en"
) -> Kinds:
    store.add_instructions(seed(t.id, text=t.instruction, is_classification=t.is_classification) for t in seeds)
    store.add_instances(instance(f"{t.id}!", t.id, input=t.input, output=t.output, policy="seed") for t in seeds)
    config = load_config(overrides=[f"instances.inputs={inputs}", f"language={language}"])
    return Kinds(Context(config, store, store.path.parent, parts, Silent()))


@pytest.mark.parametrize(("inputs", "expected"), [("always", True), ("never", False)])
def test_the_users_word_is_the_last_and_nothing_is_asked(store: Store, inputs: str, expected: bool) -> None:
    found = kinds_of(store, [*OPEN, *GIVEN], inputs=inputs).need_input([POINTS, "Sing", "clay"], [True, False, None])
    assert found == [expected] * 3


@pytest.mark.parametrize(("seeds", "expected"), [(OPEN, False), (GIVEN, True)])
def test_where_the_seeds_are_of_one_kind_so_is_every_instruction(
    store: Store, seeds: list[SeedTask], expected: bool
) -> None:
    found = kinds_of(store, seeds)
    assert found.need_input([POINTS, "Sing", "clay"], [True, False, None]) == [expected] * 3
    assert found.are_classification(["doubt", "Sing"]) == [False, False]


def test_where_all_seeds_are_classification_so_is_every_instruction(store: Store) -> None:
    found = kinds_of(store, LABELLED)
    assert found.are_classification(["Sing"]) == [True]
    assert found.need_input(["Sing"], [False]) == [True]


def parts_of(monkeypatch: pytest.MonkeyPatch, encoder: bool) -> Any:
    monkeypatch.setattr(kinds, "has_encoder", lambda: encoder)
    return SimpleNamespace(encoder=Encoder(), initial_engine=Engine(), dialect=SimpleNamespace(beginning=""))


@pytest.mark.parametrize("encoder", [True, False])
def test_what_is_like_the_seeds_that_have_an_input_needs_one_unless_it_was_asked_for_without_or_quotes_it(
    store: Store, monkeypatch: pytest.MonkeyPatch, encoder: bool
) -> None:
    found = kinds_of(store, [*OPEN, *GIVEN], parts_of(monkeypatch, encoder))
    quoting = 'Form "clay and straw"'
    texts = ["Form clay", "Form clay", "Form clay", "Sing", "Sing", POINTS, POINTS, quoting]
    asked = [None, True, False, None, True, False, None, True]
    assert found.need_input(texts, asked) == [True, True, False, False, False, True, True, False]


@pytest.mark.parametrize("encoder", [True, False])
def test_what_is_like_the_seeds_with_labels_is_classification(
    store: Store, monkeypatch: pytest.MonkeyPatch, encoder: bool
) -> None:
    found = kinds_of(store, [*OPEN, *GIVEN, *LABELLED], parts_of(monkeypatch, encoder))
    assert found.are_classification(["Sing", "Form clay", "When in doubt, ask"]) == [False, False, True]


def test_the_seeds_are_read_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = parts_of(monkeypatch, encoder=True)
    found = kinds_of(store, [*OPEN, *GIVEN, *LABELLED], parts)
    for _ in range(3):
        found.are_classification(["Sing"])
    assert parts.encoder.asked == 2 + 3, "once for each kind, then once a batch"


TOLD = [task(f"Bake clay {i} hard", "The potter went down to the river at dawn", "done") for i in range(6)]
LISTED = [task(f"In doubt {i} say so", "7, 9, 11", "yes") for i in range(6)]


@pytest.mark.parametrize(
    ("given", "encoder", "language", "lacking"),
    [
        # The one is like a list, which opens nothing, the other like no seed.
        ([*TOLD, *LISTED[:4]], True, "en", ["When in doubt, ask", POINTS]),
        ([*TOLD, *LISTED[:4]], False, "en", []),  # nobody tells what is alike
        ([*TOLD, *LISTED[:4]], True, "de", []),  # nor does an encoder of English texts
        ([*TOLD[:3], *LISTED], True, "en", []),  # most seeds' inputs are lists: those are what is wanted
    ],
)
def test_an_input_is_lacking_where_the_likest_seeds_opens_none_or_no_seed_is_like_it(
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    given: list[SeedTask],
    encoder: bool,
    language: str,
    lacking: list[str],
) -> None:
    found = kinds_of(store, [*OPEN, *given], parts_of(monkeypatch, encoder), language=language)
    texts = ["Form clay", "When in doubt, ask", "Sing", POINTS]
    assert [text for text in texts if found.lacks_input(text, None)] == lacking


def test_where_nobody_tells_what_is_alike_the_model_is_not_asked_whether_an_input_lacks(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Engine, "log_probs", lambda *_: pytest.fail("the model was asked"))
    assert not kinds_of(store, [*OPEN, *TOLD], parts_of(monkeypatch, encoder=False)).lacks_input("Form clay", None)
