"""Figures reach the trackers that are asked for, and a missing one is told before the run begins."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import pytest

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


def test_every_iterations_figures_are_sent_with_its_number(
    tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[dict[str, float], int]] = []
    finished: list[bool] = []
    run = types.SimpleNamespace(
        log=lambda values, step=None, **rest: sent.append((values, step)), finish=lambda: finished.append(True)
    )
    fake: Any = types.ModuleType("trackio")
    fake.__spec__ = importlib.machinery.ModuleSpec("trackio", None)
    fake.init = lambda **rest: run
    monkeypatch.setitem(sys.modules, "trackio", fake)
    with Trackers(with_trackers(tiny_config, "trackio"), tmp_path) as trackers:
        trackers.log(1, {"kl": 0.0})
        trackers.log(2, {"kl": 0.5, "reward_mean": -1.0})
    assert sent == [({"policy/kl": 0.0}, 1), ({"policy/kl": 0.5, "policy/reward_mean": -1.0}, 2)]
    assert finished


def test_without_trackers_nothing_is_opened(tiny_config: Config, tmp_path: Path) -> None:
    with Trackers(tiny_config, tmp_path) as trackers:
        trackers.log(1, {"kl": 0.0})
    assert not list(tmp_path.iterdir())
