"""Several processes learn what one does: the same figures and weights, however unevenly the rows fall on them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from test_trainer import weights, with_settings, written
from toys import CONFIG, actor_of

from refine_af.errors import UsageError
from refine_af.rl.trainer import Trainer
from refine_af.team import Team, launched_team

ITERATIONS = 3


def trained(team: Team, settings: dict[str, Any]) -> tuple[list[dict[str, float]], list[torch.Tensor]]:
    config = with_settings(**settings)
    ppo = Trainer(actor_of(config, 0, temperature=0.8), config, 0, team)
    return [ppo.iterate(i, *written(i, count=11)) for i in range(1, ITERATIONS + 1)], weights(ppo)


def member(rank: int, size: int, port: int, folder: Path, settings: dict[str, Any]) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size), "ACCELERATE_USE_CPU": "true"}
    with launched_team() as team:
        torch.save(trained(team, settings), folder / f"{rank}.pt")


@pytest.mark.parametrize(
    ("size", "settings"),
    [
        pytest.param(2, {"minibatch": 4, "micro_batch": 2, "kl_coefficient": 0.1}, id="first minibatch kept"),
        pytest.param(2, {"minibatch": 4, "micro_batch": 1, "critic": "adapter"}, id="a critic's own adapter"),
        pytest.param(3, {"minibatch": 5, "micro_batch": 1}, id="uneven, and one process without a row at the end"),
    ],
)
def test_processes_step_as_one(size: int, settings: dict[str, Any], tmp_path: Path, free_port: int) -> None:
    figures, expected = trained(Team(), settings)
    context = torch.multiprocessing.get_context("spawn")
    processes = [context.Process(target=member, args=(k, size, free_port, tmp_path, settings)) for k in range(size)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(size)]
    for theirs, made in found:
        for one, other in zip(figures, theirs, strict=True):
            assert other == pytest.approx(one, rel=1e-3, abs=1e-5)
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(made, expected, strict=True))
        assert all(a.equal(b) for a, b in zip(made, found[0][1], strict=True)), "processes hold the same weights"


def test_every_item_is_in_one_part() -> None:
    items = list(range(CONFIG.rollouts + 1))
    assert sorted(i for rank in range(3) for i in Team(rank, 3).share(items)) == items


def test_a_team_without_places_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(UsageError, match="WORLD_SIZE is 4 and RANK is not set"), launched_team():
        pass


@pytest.mark.parametrize("variable", ["WORLD_SIZE", "RANK", "LOCAL_WORLD_SIZE"])
def test_what_is_no_number_in_the_environment_is_refused(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    for name, value in {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_WORLD_SIZE": "2", variable: "two"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=f"^{variable}='two' is not a number; start with"), launched_team():
        pass


def test_a_launcher_that_shards_the_model_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(UsageError, match="FSDP"), launched_team():
        pass
