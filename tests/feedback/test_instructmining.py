"""Promises of the InstructMining reward: its formula, weights, a floor below every pair, clear refusals."""

from __future__ import annotations

import importlib.util
import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from refine_af.config import FeedbackConfig
from refine_af.errors import UsageError
from refine_af.feedback import instructmining
from refine_af.feedback.base import Better, Cost, Example
from refine_af.feedback.composite import Composite
from refine_af.feedback.instructmining import (
    instructmining_v1,
    instructmining_v2,
    load_instructmining_v1,
    load_instructmining_v2,
)


class Fixed:
    """A scorer that gives the same value to everything."""

    better: Better = "high"
    cost: Cost = "rules"
    identity: str | None = None

    def __init__(self, name: str, value: float) -> None:
        self.name = name
        self.low, self.high = (-math.inf, math.inf) if name == "reward_model" else (0.0, 1.0)
        self._value = value

    def score(self, examples: Sequence[Example]) -> list[float]:
        return [self._value] * len(examples)


def composite(rew: float, nat: float, coh: float, und: float, **weights: float) -> Composite:
    return instructmining_v2(
        Fixed("reward_model", rew),
        Fixed("naturalness", nat),
        Fixed("coherence", coh),
        Fixed("understandability", und),
        weights,
    )


def reward(*values: float, **weights: float) -> float:
    return composite(*values, **weights).judge([Example("Say yes.", "", "Yes.")])[0].reward


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((0.0, 0.0, 0.0, 0.0), -0.0274),
        ((1.0, 0.0, 0.0, 0.0), -0.0196),
        ((0.0, 1.0, 0.0, 0.0), 0.2938),
        ((0.0, 0.0, 1.0, 0.0), 0.1246),
        ((0.0, 0.0, 0.0, 1.0), -0.4695),
        # 0.0078·(-2) - 0.4421·0.5 + 0.3212·0.9 + 0.1520·0.8 - 0.0274
        ((-2.0, 0.9, 0.8, 0.5), 0.14663),
    ],
)
def test_the_reward_is_the_rules_formula(values: tuple[float, ...], expected: float) -> None:
    assert reward(*values) == pytest.approx(expected, abs=1e-12)


def test_each_component_stays_visible_under_its_name() -> None:
    judgement = composite(-2.0, 0.9, 0.8, 0.5, understandability=0.0).judge([Example("a", "", "b")])[0]
    shown = {"reward_model": -2.0, "naturalness": 0.9, "coherence": 0.8, "understandability": 0.5}
    assert judgement.components == shown


def test_a_weight_given_by_name_replaces_the_rules() -> None:
    assert reward(-2.0, 0.9, 0.8, 0.5, understandability=0.0) == pytest.approx(0.36768, abs=1e-12)
    assert reward(1.0, 0.0, 0.0, 0.0, reward_model=0.5) == pytest.approx(0.4726, abs=1e-12)


def test_the_floor_is_the_one_that_the_docstring_computes() -> None:
    assert composite(0, 0, 0, 0).floor == pytest.approx(-0.5975, abs=1e-12)


@pytest.mark.parametrize("weights", [{}, {"understandability": 2.0}, {"reward_model": -1.0, "coherence": -3.0}])
def test_no_pair_is_as_bad_as_a_completion_that_is_none(weights: dict[str, float]) -> None:
    for values in itertools.product((-10.0, 10.0), (0.0, 1.0), (0.0, 1.0), (0.0, 1.0)):
        feedback = composite(*values, **weights)
        assert feedback.judge([Example("a", "", "b")])[0].reward >= feedback.floor + 0.049


@pytest.mark.parametrize(
    ("weights", "complaint"),
    [
        ({"fluency": 1.0}, "'fluency'.*known: reward_model, naturalness, coherence, understandability"),
        ({"coherence": math.nan}, r"feedback\.weights\.coherence must be a finite number, found nan"),
        (dict.fromkeys(instructmining.WEIGHTS_V2, 0.0), "every weight is zero"),
    ],
)
def test_wrong_weights_are_refused(weights: dict[str, float], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        composite(0, 0, 0, 0, **weights)


def test_two_scorers_of_one_name_are_refused() -> None:
    twice = Fixed("naturalness", 1.0)
    with pytest.raises(UsageError, match="different names"):
        instructmining_v2(Fixed("reward_model", 0.0), twice, twice, Fixed("understandability", 0.0))


@pytest.mark.parametrize("offline", ["0", "1"])
def test_a_missing_model_is_named_with_the_command_that_gets_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, offline: str
) -> None:
    pytest.importorskip("huggingface_hub")
    monkeypatch.setenv("HF_HUB_OFFLINE", offline)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for missing in (instructmining.REWARD_MODEL, instructmining.UNIEVAL):
        with pytest.raises(UsageError, match=f"hf download {missing}") as caught:
            load_instructmining_v2(FeedbackConfig(name="instructmining_v2"), "cpu")
        assert "\n" not in str(caught.value)
        monkeypatch.setattr(instructmining, "REWARD_MODEL", str(_folder(tmp_path)))


def test_wrong_weights_are_refused_before_any_model_is_looked_for() -> None:
    with pytest.raises(UsageError, match="fluency"):
        load_instructmining_v2(FeedbackConfig(name="instructmining_v2", weights={"fluency": 1.0}), "cpu")


def _folder(place: Path) -> Path:
    """A folder that passes for a model as long as nobody loads it."""
    folder = place / "there"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text("{}")
    return folder


# -- version 1 -----------------------------------------------------------------------------------------


def reward_v1(rew: float, length: float, distance: float, **weights: float) -> float:
    feedback = instructmining_v1(
        Fixed("reward_model", rew), Fixed("length", length), Fixed("neighbour_distance", distance), weights
    )
    return feedback.judge([Example("Say yes.", "", "Yes.")])[0].reward


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((0.0, 0.0, 0.0), -1.0694),
        ((1.0, 0.0, 0.0), -0.9196),
        ((0.0, 100.0, 0.0), -1.077657),
        ((0.0, 0.0, 1.0), -0.1344),
        # 0.1498·(-2) - 8.257e-5·50 + 0.9350·0.8 - 1.0694
        ((-2.0, 50.0, 0.8), -0.6251285),
    ],
)
def test_the_reward_of_version_1_is_its_formula(values: tuple[float, ...], expected: float) -> None:
    assert reward_v1(*values) == pytest.approx(expected, abs=1e-12)


def test_version_1_shows_its_components_and_takes_weights_by_their_names() -> None:
    feedback = instructmining_v1(Fixed("a", -2.0), Fixed("b", 50.0), Fixed("c", 0.8), {"length": 0.0})
    (judgement,) = feedback.judge([Example("a", "", "b")])
    assert judgement.components == {"reward_model": -2.0, "length": 50.0, "neighbour_distance": 0.8}
    assert judgement.shares["length"] == 0.0
    assert judgement.reward > feedback.floor
    with pytest.raises(UsageError, match="'coherence', which instructmining_v1 has not"):
        reward_v1(0, 0, 0, coherence=1.0)


def test_version_1_names_its_missing_model_with_the_command_that_gets_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UsageError, match=f"hf download {instructmining.REWARD_MODEL}"):
        load_instructmining_v1(FeedbackConfig(name="instructmining_v1"), "cpu", [])


@pytest.mark.skipif(importlib.util.find_spec("all_minilm_l6_v2") is None, reason="the encoder's package is not here")
def test_version_1_measures_with_the_models_of_this_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from reward_models import checkpoint

    monkeypatch.setattr(instructmining, "REWARD_MODEL", str(checkpoint(tmp_path / "reward", "safetensors")))
    seeds = [Example(f"Name the number {i}.", "", f"It is {i}.") for i in range(7)]
    feedback = load_instructmining_v1(FeedbackConfig(name="instructmining_v1"), "cpu", seeds)
    near, far = feedback.judge(
        [Example("Name the number 9.", "", "It is 9."), Example("Boil an egg.", "", "Ten minutes.")]
    )
    assert near.components["neighbour_distance"] < far.components["neighbour_distance"]
    assert near.components["length"] == 3.0
    values = near.components
    expected = 0.1498 * values["reward_model"] - 8.257e-5 * 3 + 0.9350 * values["neighbour_distance"] - 1.0694
    assert near.reward == pytest.approx(expected)
