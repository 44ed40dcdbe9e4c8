"""What a reward is validated with: nonsense arms that are nonsense, gains over tasks, a journal to go on from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refine_af.config import Config
from refine_af.evaluation.likelihood import Questions
from refine_af.evaluation.references import FIGURES, Measured
from refine_af.feedback.base import Example
from refine_af.parts import Parts
from refine_af.prompts.answers import answer_frame
from refine_af.validation import students
from refine_af.validation.choices import last_words, shuffled
from refine_af.validation.gains import Gain, gains
from refine_af.validation.students import Students

PAIRS = [Example(f"Name the {word}.", "", f"A short {word}") for word in ("city", "river", "garden", "school", "tree")]


@pytest.fixture(scope="module")
def parts(tiny_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return Parts(tiny_config, tmp_path_factory.mktemp("scratch"))


@pytest.fixture(scope="module")
def questions(parts: Parts) -> list[Questions]:
    frame = answer_frame(parts.dialect)
    prompts = tuple(frame.prompt(f"Name a {word} of the city.") for word in ("river", "market", "school"))
    return [
        Questions("places", prompts, ("the long river", "market", "a new school for each child")),
        Questions("verbs", prompts[:2], ("Write", "Tell the story")),
    ]


@given(st.integers(2, 30), st.integers(0, 5))
def test_shuffled_answers_all_stand_behind_another_instruction(count: int, seed: int) -> None:
    pairs = [Example(f"Task {i}", f"Input {i}", f"Answer {i}") for i in range(count)]
    mixed = shuffled(pairs, seed)
    assert [(one.instruction, one.input) for one in mixed] == [(one.instruction, one.input) for one in pairs]
    assert sorted(one.output for one in mixed) == sorted(one.output for one in pairs)
    assert all(new.output != old.output for new, old in zip(mixed, pairs, strict=True))
    assert mixed == shuffled(pairs, seed)


def test_the_last_word_alone() -> None:
    assert [one.output for one in last_words(PAIRS[:2])] == ["city", "river"]


def test_a_student_of_the_journal_is_read_and_half_a_line_forgotten(
    parts: Parts, questions: list[Questions], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = tmp_path / "journal.jsonl"
    first = Students(parts, questions, journal, note=lambda text: None)
    untouched, found = first.untouched(), [first.tuned_on("pairs", PAIRS, seed) for seed in (0, 1)]
    assert untouched not in found
    assert found[0] != found[1]
    with journal.open("a", encoding="utf-8") as file:
        file.write('{"key": "half')

    again = Students(parts, questions, journal, note=lambda text: None)
    whole = journal.read_text(encoding="utf-8")
    assert len(whole.splitlines()) == 3

    def trains(*args: Any) -> None:
        raise AssertionError("a student was trained again")

    monkeypatch.setattr(students, "tune", trains)
    assert again.untouched() == untouched
    assert [again.tuned_on("other name", PAIRS, seed) for seed in (0, 1)] == found
    assert journal.read_text(encoding="utf-8") == whole
    with pytest.raises(AssertionError, match="trained again"):
        again.tuned_on("pairs", PAIRS[::-1], 0)


def test_gains_are_over_tasks_and_means_over_students() -> None:
    def student(**content: float) -> Measured:
        return {task: dict.fromkeys(FIGURES, value) for task, value in content.items()}

    control = [student(a=-1.0, b=-2.0, c=0.0), student(a=-3.0, b=-2.0, c=0.0)]
    arm = [student(a=-1.0, b=-3.0, c=0.0)]
    assert gains(control, arm)["content"] == Gain(mean=0.0, low=-1.0, high=1.0, won=1, lost=1)
