"""Promises of the embedded reward: trained once, the same in any process and batch, and hard to be fooled.

On the tiny random model the language model's features are noise; what embeddings and words tell must be enough for the
coarse promises. The fine ones are kept on the embedded model.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest

from refine_af.config import Config, ScorerConfig, load_config
from refine_af.errors import UsageError
from refine_af.feedback.base import Example
from refine_af.feedback.catalogue import Workshop
from refine_af.feedback.composite import Composite
from refine_af.feedback.embedded import FLOOR, WEIGHTS
from refine_af.feedback.evaluator import teachers, training
from refine_af.feedback.evaluator.features import WIDTH, features
from refine_af.feedback.evaluator.teachers import training_pairs
from refine_af.feedback.likelihood import TaskLikelihood
from refine_af.feedback.make import make_feedback
from refine_af.models import cache_folder
from refine_af.parts import Parts
from refine_af.prompts.answers import scoring_frame
from refine_af.seeds import built_in_tasks, shown_tasks
from refine_af.stages.context import calibration_pairs

GOOD = [
    Example("Name three animals that live in the sea.", "", "Dolphins, octopuses and crabs live in the sea."),
    Example("Explain why leaves are green.", "", "Leaves are green because chlorophyll reflects green light."),
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
def shop(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(teachers, "_MOST_PAIRS", 60)  # enough for the coarse promises
        seeds = calibration_pairs(shown_tasks(config.seeds, config.seed), config)
        yield Workshop(Parts(config, tmp_path_factory.mktemp("scratch")), seeds)


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


def test_nothing_is_worse_than_an_empty_answer(reward: Composite) -> None:
    assert rewards(reward, with_output("")) == [FLOOR] * len(GOOD)
    assert rewards(reward, with_output(" \n")) == [FLOOR] * len(GOOD)
    assert rewards(reward, with_output("?!")) == [FLOOR] * len(GOOD)
    assert all(r >= FLOOR for r in rewards(reward, with_output("x " * 300)))


def test_cheap_answers_are_worse_than_good_ones(reward: Composite) -> None:
    good = median(rewards(reward, GOOD))
    echoes = [Example(e.instruction, e.input, e.instruction) for e in GOOD]
    circles = with_output("and so on and so on and so on and so on and so on and so on")
    others = [Example(e.instruction, e.input, GOOD[i - 1].output) for i, e in enumerate(GOOD)]
    for bad in (echoes, circles, others):
        assert max(rewards(reward, bad)) < good


def test_an_edited_input_is_not_taken_for_an_echo(reward: Composite) -> None:
    text = "Their going too the park on sunday with there dog, wich likes it very much."
    edited = "They're going to the park on Sunday with their dog, which likes it very much."
    task = "Correct the text."
    whole, mended = rewards(reward, [Example(task, text, text), Example(task, text, edited)])
    assert whole <= -1.0 < mended


def test_a_short_answer_in_a_whole_sentence_is_not_taken_for_an_echo(reward: Composite) -> None:
    task = "What is the most popular sport among the five countries listed?"
    answer = "The most popular sport among the five countries listed is football."
    echo, answered = rewards(reward, [Example(task, "", task.rstrip("?")), Example(task, "", answer)])
    assert echo == FLOOR < answered


def test_a_pair_has_the_same_reward_in_any_batch(reward: Composite) -> None:
    together = rewards(reward, GOOD)
    assert [rewards(reward, [e])[0] for e in GOOD] == pytest.approx(together, abs=1e-4)
    assert rewards(reward, GOOD[::-1]) == pytest.approx(together[::-1], abs=1e-4)


def test_it_is_trained_once_and_says_how_well_it_learnt(shop: Workshop, reward: Composite) -> None:
    kept = list((cache_folder() / "evaluator").glob("*/areas.json"))
    before = {path: path.stat().st_mtime_ns for path in kept}
    again = make_feedback(Workshop(shop.parts, shop.seeds))
    assert rewards(again, GOOD) == rewards(reward, GOOD)
    assert {path: path.stat().st_mtime_ns for path in (cache_folder() / "evaluator").glob("*/areas.json")} == before
    areas = json.loads(kept[0].read_text(encoding="utf-8"))["areas"]
    assert all(0.0 <= area <= 1.0 for area in areas.values())


def test_held_out_seeds_are_not_learnt_from(config: Config) -> None:
    taught = {e.instruction for e in training_pairs(config)}
    shown = {t.instruction for t in shown_tasks(config.seeds, config.seed)}
    assert taught <= shown
    assert len(shown) < len(built_in_tasks())


def test_too_few_shown_seeds_are_told_and_held_out_ones_do_not_stand_in(config: Config) -> None:
    few = config.model_copy(update={"seeds": config.seeds.model_copy(update={"held_out": 0.97})})
    with pytest.raises(UsageError, match=r"seeds\.held_out=0\.97 leaves \d seed tasks .* lower it"):
        training_pairs(few)


def test_a_few_seeds_of_the_users_own_are_joined_by_the_built_in_ones(config: Config, tmp_path: Path) -> None:
    row = {"instruction": "Name a planet.", "input": "", "output": "Mars is a planet."}
    (tmp_path / "own.jsonl").write_text(json.dumps(row), encoding="utf-8")
    own = config.model_copy(update={"seeds": config.seeds.model_copy(update={"path": str(tmp_path / "own.jsonl")})})
    pairs = training_pairs(own)
    assert pairs[0].instruction == "Name a planet."
    assert len(pairs) == 60


def test_rows_to_learn_from_are_the_same_each_time_and_spoil_each_pair(shop: Workshop) -> None:
    pairs = training_pairs(shop.config)[:20]
    engine = shop.parts.initial_engine
    rows = training.training_rows(pairs, engine)
    assert rows == training.training_rows(pairs, engine)
    good = {place for kind, place, _ in rows if kind == training.GOOD}
    spoilt = {place for kind, place, _ in rows if kind != training.GOOD}
    assert set(range(20)) <= spoilt <= good


@pytest.mark.parametrize("output", ["", "a", "...", "é", "word " * 400, "One. Two.\n\nThree", "<b>x</b>\ufffd"])
def test_any_output_has_features(shop: Workshop, output: str) -> None:
    engine, dialect = shop.parts.initial_engine, shop.parts.dialect
    examples = [Example("Do it", "", output), Example("", "with this", output)]
    readings = TaskLikelihood(engine, scoring_frame(dialect))(examples)
    found = features(examples, readings, shop.embedder(ScorerConfig()))
    assert found.shape == (2, WIDTH)
    assert all(math.isfinite(v) for v in found.ravel())
