"""Whole runs whose completions a vLLM server writes: the policy that it has is the one that is trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from serving import Server
from test_algorithms import GROUPS, going_on
from vllm_serving import TinyVllm

from refine_af.config import Config
from refine_af.errors import RefineError, UsageError
from refine_af.run import Run, open_run

Serve = Callable[..., Server]


def asking(server: Server, config: Config) -> Config:
    values = config.model_dump()
    values["model"] |= {"engine": "vllm", "server": values["model"]["server"] | {"url": server.url}}
    return Config.model_validate(values)


@pytest.mark.parametrize("algorithm", ["ppo", "grpo"])
def test_every_iteration_is_written_by_the_policy_that_the_last_one_left(
    algorithm: str, serve: Serve, instructed: Path, tiny_config: Config, tiny_model: Path, tmp_path: Path
) -> None:
    served, folder = TinyVllm(tiny_model), tmp_path / "run"
    groups = GROUPS if algorithm == "grpo" else {"learning_rate": 0.05}
    config = going_on(instructed, folder, asking(serve(served), tiny_config), algorithm=algorithm, **groups)
    Run(config, folder).execute(until="instances" if algorithm == "grpo" else None)
    read = [Path(path).relative_to(folder).as_posix() for path in served.loaded]
    checkpoints = ["checkpoints/iteration-00001", "checkpoints/iteration-00002"]
    assert read[:2] == checkpoints
    assert "policy" in read
    assert served.adapters == set()
    if algorithm == "grpo":
        return
    assert read[-1] == "model", "the tuned model is evaluated by it too"
    with open_run(folder) as store:
        kl = dict(store.metric("policy", "mismatch_kl"))
        assert set(kl) == {1, 2, 3}
        assert max(kl.values()) < 1e-8, "the server's likelihoods are the trainer's, of the adapter as it was"
        assert dict(store.metric("policy", "kl"))[3] > 1e-3, "by then it had changed"


def test_a_server_that_goes_away_loses_nothing_and_may_come_back_elsewhere(
    serve: Serve, instructed: Path, tiny_config: Config, tiny_model: Path, tmp_path: Path
) -> None:
    served, folder = TinyVllm(tiny_model), tmp_path / "run"
    first = serve(lambda request: served(request) if len(served.loaded) < 2 else (503, {"error": "out"}, {}))
    config = going_on(instructed, folder, asking(first, tiny_config))
    with pytest.raises(RefineError, match=r"^model\.server: .*answered 503 .*6 times in a row"):
        Run(config, folder).execute(until="policy")
    with open_run(folder) as store:
        done = store.cursor("policy")["iterations"]
        rows = store.scalar("SELECT COUNT(*) FROM rollouts")
    assert done == 2
    Run(asking(serve(TinyVllm(tiny_model)), config), folder).execute(until="policy")
    with open_run(folder) as store:
        assert store.cursor("policy")["iterations"] == config.policy.iterations
        assert int(store.scalar("SELECT COUNT(*) FROM rollouts")) > int(rows)


def test_a_run_that_finds_no_server_writes_nothing(
    serve: Serve, tiny_config: Config, tmp_path: Path, free_port: int
) -> None:
    values = tiny_config.model_dump()
    serve((200, {}, {}))  # for its impatience alone
    values["model"] |= {"engine": "vllm", "server": {"url": f"http://127.0.0.1:{free_port}/v1"}}
    with pytest.raises(UsageError, match=r"gave no answer .* is it running"):
        Run(Config.model_validate(values), tmp_path / "run").execute()
    assert not (tmp_path / "run").exists()
