"""A run under `accelerate launch` with two processes: the rows of one process, from the start and from a checkpoint."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file
from test_algorithms import going_on, stop_at

from refine_af.config import Config, as_yaml
from refine_af.run import Run, open_run

# Two processes sum in another order than one: a draw within 1e-6 of the border of two tokens may fall on either
# side of it. With these settings none does.
PPO = {"learning_rate": 9e-4, "rollouts": 8, "minibatch": 4, "micro_batch": 2, "epochs": 2, "iterations": 3}


# accelerate's name for several processes; without a GPU they are on the CPU.
ACCELERATE = ("accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1")
ACCELERATE += ("--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0")
TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc_per_node", "2")


def launch(launcher: tuple[str, ...], config: Config, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    file = folder.with_suffix(".yaml")
    file.write_text(as_yaml(config), encoding="utf-8")
    own = ["-m", "refine_af", "run", "--config", str(file), "--out", str(folder), *more]
    return subprocess.run(
        [sys.executable, "-m", *launcher, *own], capture_output=True, text=True, timeout=300, check=False
    )


def rows(folder: Path) -> list[tuple[object, ...]]:
    with open_run(folder) as store:
        found = store.query("SELECT iteration, position, text, split FROM rollouts ORDER BY split, iteration, position")
        return [tuple(row) for row in found]


def curves(folder: Path) -> dict[str, list[float]]:
    with open_run(folder) as store:
        names = [row["name"] for row in store.query("SELECT DISTINCT name FROM metrics WHERE stage = 'policy'")]
        return {name: [value for _, value in store.metric("policy", name)] for name in names}


def pairs(folder: Path) -> set[tuple[str, str]]:
    with open_run(folder) as store:
        return {(one.id, one.output) for name in ("initial", "tuned") for one in store.instances(policy=name)}


def test_two_processes_give_the_curve_and_the_pairs_of_one(
    instructed: Path, tiny_config: Config, tmp_path: Path
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    config = going_on(instructed, one, tiny_config, **PPO)
    Run(config, one).execute(until="instances")
    going_on(instructed, two, tiny_config, **PPO)
    done = launch(ACCELERATE, config, two)
    assert done.returncode == 0, done.stderr
    assert "2 processes write and learn together" in done.stderr
    assert rows(two) == rows(one)
    assert pairs(two) == pairs(one)
    ours, theirs = curves(two), curves(one)
    assert ours.keys() == theirs.keys()
    for name, values in theirs.items():
        assert ours[name] == pytest.approx(values, rel=1e-3, abs=1e-4), name
    first, second = (load_file(f / "policy" / "adapter_model.safetensors") for f in (one, two))
    assert all(first[name].allclose(second[name], atol=1e-5) for name in first)
    assert (two / "report.html").is_file()
    assert (two / "model").is_dir()


def test_two_processes_go_on_from_the_checkpoint_of_one(
    instructed: Path, tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    config = going_on(instructed, whole, tiny_config, **PPO)
    Run(config, whole).execute(until="policy")
    going_on(instructed, stopped, tiny_config, **PPO)
    stop_at(config, stopped, monkeypatch, 3)
    done = launch(TORCHRUN, config, stopped, "--until", "policy")
    assert done.returncode == 0, done.stderr
    assert rows(stopped) == rows(whole)


def test_two_processes_learn_in_groups_what_one_learns(instructed: Path, tiny_config: Config, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    settings = {**PPO, "algorithm": "grpo", "group_size": 4}
    config = going_on(instructed, one, tiny_config, **settings)
    Run(config, one).execute(until="instances")
    going_on(instructed, two, tiny_config, **settings)
    done = launch(TORCHRUN, config, two, "--until", "instances")
    assert done.returncode == 0, done.stderr
    assert rows(two) == rows(one)
    assert pairs(two) == pairs(one)


def test_too_many_processes_for_a_minibatch_get_one_line(tiny_config: Config, tmp_path: Path) -> None:
    policy = tiny_config.policy.model_copy(update={"minibatch": 1})
    done = launch(TORCHRUN, tiny_config.model_copy(update={"policy": policy}), tmp_path / "run")
    assert done.returncode != 0
    assert "policy.minibatch (1) gives 2 processes no rollout each" in done.stderr
    assert not (tmp_path / "run").exists()
