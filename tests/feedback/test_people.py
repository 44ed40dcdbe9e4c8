"""Scorers that know people's pairs: how long an output should be, and whose it is."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from refine_af.feedback.base import Example
from refine_af.feedback.embedding import Embedder
from refine_af.feedback.people import BorrowedScorer, UnusualLengthScorer
from refine_af.feedback.rules import AddedWordsScorer

WORDS = {"cat": 40, "dog": 60, "king": 50}
STORIES = [Example(f"Tell a story about a {who}.", "", "word " * words) for who, words in WORDS.items()]
LABELS = [Example(f"Is a {what} alive?", "", label) for what, label in {"stone": "No", "rose": "Yes"}.items()]


class ByFirstWord(Embedder):
    """An encoder for which instructions are alike that begin alike."""

    identity = "first word"

    def __init__(self) -> None:
        pass

    def embed(self, texts: object) -> NDArray[np.float32]:
        vectors = [[1.0, 0.0] if text.startswith("Tell") else [0.0, 1.0] for text in texts]  # type: ignore[attr-defined]
        return np.array(vectors, np.float32)


def test_a_length_is_usual_within_peoples_for_instructions_of_its_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("refine_af.feedback.people._NEAREST", 2)
    scorer = UnusualLengthScorer(ByFirstWord(), [*STORIES, *LABELS])

    def of(instruction: str, words: int) -> float:
        return scorer.score([Example(instruction, "", "word " * words)])[0]

    assert of("Tell a story about a boat.", 45) == 0
    assert of("Tell a story about a boat.", 20) == pytest.approx(1)
    assert of("Tell a story about a boat.", 1) == pytest.approx(math.log2(40))
    assert of("Is a boat alive?", 1) == 0
    assert of("Is a boat alive?", 16) == pytest.approx(4)


def test_a_copy_of_peoples_output_is_borrowed_but_by_its_own_instruction() -> None:
    people = [
        Example("Say where she went.", "", "She went to the market by the river."),
        Example("Is it so?", "", "Yes"),
    ]
    scorer = BorrowedScorer(people)
    other = "Describe your day."
    outputs = [
        "She went to the market by the river.",
        "She went to a market by the old river.",
        "Yes",
        "A quiet day at home.",
    ]
    copy, near, label, own = scorer.score([Example(other, "", output) for output in outputs])
    assert copy == 1
    assert 0.7 < near < 1
    assert label == 0
    assert own < 0.5
    assert scorer.score(people) == [0, 0]


def test_words_of_the_instruction_alone_add_nothing() -> None:
    task = "Write a sentence about the old harbour in winter."
    outputs = [
        "The old harbour in winter.",
        "The old harbour freezes.",
        "harbour",
        "Winter: a sentence about the harbour",
    ]
    found = AddedWordsScorer().score([Example(task, "", output) for output in outputs])
    assert found == [0.0, 0.25, 1.0, 0.0]
