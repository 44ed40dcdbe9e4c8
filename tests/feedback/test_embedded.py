"""Promises of the embedded reward: made of what a pair would teach, the same in any process and batch, and gated.

On the tiny random model influence is noise, so the gates are looked at there; what it pays for, on the embedded model.
"""

from __future__ import annotations

import math
from pathlib import Path
from statistics import fmean

import pytest

from refine_af.config import Config, load_config
from refine_af.errors import UsageError
from refine_af.feedback.base import Example
from refine_af.feedback.catalogue import Workshop
from refine_af.feedback.composite import Composite
from refine_af.feedback.embedded import FLOOR, WEIGHTS
from refine_af.feedback.influence import split
from refine_af.feedback.make import make_feedback
from refine_af.parts import Parts
from refine_af.seeds import built_in_tasks, shown_tasks

GOOD = [
    Example("Name three animals that live in the sea.", "", "Dolphins, octopuses and crabs are found there."),
    Example("Explain why leaves are green.", "", "Their chlorophyll reflects green light."),
    Example(
        "Summarise the text.",
        "The bakery opens at six. Its owner bakes bread at night.",
        "A bakery that bakes at night opens at six.",
    ),
    Example("Write a polite refusal to an invitation.", "", "Thank you for asking me, but I can't come on Friday."),
]


@pytest.fixture(scope="module")
def config(tiny_model: Path) -> Config:
    return load_config(overrides=[f"model.name={tiny_model}", "threads=1", "model.quantization=float32"])


@pytest.fixture(scope="module")
def shop(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(Parts(config, tmp_path_factory.mktemp("scratch")), [])


@pytest.fixture(scope="module")
def reward(shop: Workshop) -> Composite:
    return make_feedback(shop)


def rewards(reward: Composite, examples: list[Example]) -> list[float]:
    return [j.reward for j in reward.judge(examples)]


def with_output(output: str) -> list[Example]:
    return [Example(e.instruction, e.input, output) for e in GOOD]


def test_its_parts_are_named_weighed_and_shown(reward: Composite) -> None:
    judged = reward.judge(GOOD)
    assert WEIGHTS.keys() <= judged[0].components.keys()
    assert judged[0].reward == pytest.approx(sum(judged[0].shares.values()))
    assert math.isclose(sum(WEIGHTS.values()), 1.0)


def test_a_pair_by_people_is_worth_nothing_more_or_less(shop: Workshop, reward: Composite) -> None:
    anchors = shop.influence(witness=False)._anchors
    judged = reward.judge(anchors)
    for name in WEIGHTS:
        assert fmean(j.shares[name] for j in judged if j.shares) == pytest.approx(0, abs=0.05)


def test_nothing_is_worse_than_an_empty_answer(reward: Composite) -> None:
    assert rewards(reward, with_output("")) == [FLOOR] * len(GOOD)
    assert rewards(reward, with_output(" \n")) == [FLOOR] * len(GOOD)
    assert rewards(reward, with_output("?!")) == [FLOOR] * len(GOOD)
    assert all(r >= FLOOR for r in rewards(reward, with_output("x " * 300)))


def test_what_is_no_answer_by_its_words_is_at_the_floor(config: Config, reward: Composite) -> None:
    echoes = [Example(e.instruction, e.input, e.instruction) for e in GOOD]
    circles = with_output("and so on and so on and so on and so on and so on and so on")
    borrowed = max((t.output for t in shown_tasks(config.seeds, config.seed)), key=len)
    for bad in (echoes, circles, with_output(borrowed)):
        judged = reward.judge(bad)
        assert [j.reward for j in judged] == [FLOOR] * len(bad)
        assert not any(j.sound for j in judged)


def test_words_of_the_instruction_alone_are_no_answer(reward: Composite) -> None:
    task = "Name three animals that live in the sea."
    (judged,) = reward.judge([Example(task, "", "Three animals live in the sea.")])
    assert judged.reward <= -1
    assert not judged.sound


def test_an_edited_input_is_not_taken_for_an_echo(reward: Composite) -> None:
    text = "Their going too the park on sunday with there dog, wich likes it very much."
    edited = "They're going to the park on Sunday with their dog, which likes it very much."
    whole, mended = reward.judge([Example("Correct the text.", text, text), Example("Correct the text.", text, edited)])
    assert whole.reward <= -1.0
    assert (whole.sound, mended.sound) == (False, True)


def test_a_short_answer_in_a_whole_sentence_is_not_taken_for_an_echo(reward: Composite) -> None:
    task = "What is the most popular sport among the five countries listed?"
    answer = "The most popular sport among the five countries listed is football."
    echo, answered = reward.judge([Example(task, "", task.rstrip("?")), Example(task, "", answer)])
    assert (echo.sound, answered.sound) == (False, True)


def test_one_word_where_people_write_a_page_is_no_answer(reward: Composite) -> None:
    tasks = (
        "Explain why the sky is blue.",
        "Write a short story about a lost key, with a beginning, a middle and an end.",
    )
    word, story = reward.judge([Example(tasks[0], "", "because"), Example(tasks[1], "", "positive")])
    assert not word.sound
    assert max(word.reward, story.reward) <= -1


def test_a_pair_has_the_same_reward_in_any_batch(reward: Composite) -> None:
    together = rewards(reward, GOOD)
    assert [rewards(reward, [e])[0] for e in GOOD] == pytest.approx(together, abs=1e-3)
    assert rewards(reward, GOOD[::-1]) == pytest.approx(together[::-1], abs=1e-3)


def test_it_is_the_same_when_it_is_made_again(shop: Workshop, reward: Composite, tmp_path: Path) -> None:
    again = make_feedback(Workshop(Parts(shop.config, tmp_path), []))
    assert rewards(again, GOOD) == rewards(reward, GOOD)


def test_weights_are_the_users_to_change(config: Config, shop: Workshop, tmp_path: Path) -> None:
    feedback = config.feedback.model_copy(update={"weights": {"content": 0.0}})
    changed = make_feedback(Workshop(Parts(config.model_copy(update={"feedback": feedback}), tmp_path), []))
    assert all(j.shares["content"] == 0 for j in changed.judge(GOOD))
    wrong = config.feedback.model_copy(update={"weights": {"quality": 1.0}})
    with pytest.raises(UsageError, match="quality"):
        make_feedback(Workshop(Parts(config.model_copy(update={"feedback": wrong}), tmp_path), []))


@pytest.mark.embedded
def test_people_are_paid_for_answers_to_their_own_tasks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(split, "MOST", 10)
    config = load_config(preset="embedded", overrides=["threads=1"])
    influence = Workshop(Parts(config, tmp_path), []).influence(witness=False)
    shown = {t.instruction for t in shown_tasks(config.seeds, config.seed)}
    held_out = [t for t in built_in_tasks() if t.instruction not in shown and t.words() <= 30]
    own = [Example(t.instruction, t.input, t.output) for t in held_out]
    other = [Example(a.instruction, a.input, b.output) for a, b in zip(own, [*own[1:], own[0]], strict=True)]
    found = influence([*own, *other])
    assert (found[: len(own)].mean(0) > found[len(own) :].mean(0)).all()  # in every direction
