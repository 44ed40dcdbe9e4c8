"""Figures reach the trackers that are asked for, and a missing one is told before the run begins."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from refine_af.config import Config
from refine_af.errors import UsageError
from refine_af.rl.trackers import Trackers
from refine_af.run import Run


def with_trackers(config: Config, *names: str) -> Config:
    return config.model_copy(update={"policy": config.policy.model_copy(update={"report_to": names})})


def test_a_tracker_that_is_not_installed_is_told_before_anything_is_written(
    tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None if name == "wandb" else there(name, *rest))
    with pytest.raises(UsageError, match="pip install wandb"):
        Run(with_trackers(tiny_config, "wandb"), tmp_path / "run").execute()
    assert not (tmp_path / "run").exists()


def test_every_iterations_figures_are_sent_with_its_number(tiny_config: Config, tmp_path: Path) -> None:
    with Trackers(with_trackers(tiny_config, "tensorboard"), tmp_path) as trackers:
        trackers.log(1, {"kl": 0.0})
        trackers.log(2, {"kl": 0.5, "reward_mean": -1.0})
    written = EventAccumulator(str(tmp_path / "logs" / "refine-af")).Reload()
    found = {tag: [(e.step, e.value) for e in written.Scalars(tag)] for tag in written.Tags()["scalars"]}
    assert found == {"policy/kl": [(1, 0.0), (2, 0.5)], "policy/reward_mean": [(2, -1.0)]}


def test_without_trackers_nothing_is_opened(tiny_config: Config, tmp_path: Path) -> None:
    with Trackers(tiny_config, tmp_path) as trackers:
        trackers.log(1, {"kl": 0.0})
    assert not list(tmp_path.iterdir())
