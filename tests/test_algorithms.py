"""Whole runs with each algorithm of the policy stage: the same rows and files, whatever learns; best-of-n spends on
candidates what training would have sampled."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import test_run
from safetensors.torch import load_file

from refine_af.config import Config
from refine_af.errors import RefineError
from refine_af.rl.guards import Alarm
from refine_af.run import Run, open_run
from refine_af.stages import policy
from refine_af.stages.learning import Learn
from refine_af.stages.pairs import WrittenTurn
from refine_af.store import Store

REWARD = {"name": "composite", "scorers": {"variety": {}, "format": {}}}  # no model to be trained for it
GROUPS = {"rollouts": 8, "group_size": 4, "minibatch": 4, "micro_batch": 2, "epochs": 2}


def going_on(instructed: Path, folder: Path, config: Config, **policy: Any) -> Config:
    """Puts a copy of the run into ``folder``, to go on from there with other settings of the policy."""
    values = config.model_dump()
    config = Config.model_validate(values | {"feedback": REWARD, "policy": values["policy"] | policy})
    shutil.copytree(instructed, folder)
    with Store(folder / "run.db") as store:
        store.change_config(config.model_dump(mode="json"), "another algorithm")
    return config


def stop_at(config: Config, folder: Path, monkeypatch: pytest.MonkeyPatch, iteration: int) -> None:
    """Runs until the iteration's rows are about to be committed, its checkpoint being there."""
    add = Store.add_metrics

    def fail(self: Store, stage: str, step: int, figures: dict[str, float]) -> None:
        if stage == "policy" and step == iteration:
            raise InterruptedError
        add(self, stage, step, figures)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "add_metrics", fail)
        with pytest.raises(InterruptedError):
            Run(config, folder).execute()


@pytest.mark.parametrize("algorithm", ["grpo", "rloo", "mipo"])
def test_a_run_without_a_critic_leaves_what_ppo_leaves_and_goes_on_where_it_was_stopped(
    algorithm: str, instructed: Path, tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    config = going_on(instructed, whole, tiny_config, algorithm=algorithm, **GROUPS)
    Run(config, whole).execute(until="instances")
    going_on(instructed, stopped, tiny_config, algorithm=algorithm, **GROUPS)
    stop_at(config, stopped, monkeypatch, 3)
    Run(config, stopped).execute(until="instances")
    ours, theirs = test_run.rows(stopped), test_run.rows(whole)
    for table, expected in theirs.items():
        assert ours[table] == expected, table
    first, second = (load_file(f / "policy" / "adapter_model.safetensors") for f in (whole, stopped))
    assert first.keys() == second.keys()
    assert all(first[name].equal(second[name]) for name in first)
    assert sorted(p.name for p in (whole / "policy").iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    with open_run(whole) as store:
        by_place = store.query("SELECT * FROM rollouts WHERE split = 'train' ORDER BY iteration, position")
        watched = ("reward_mean", "reward_std", "kl", "entropy", "response_tokens", "ended_share", "parsed_share",
                   "distinct_2", "policy_loss", "clip_share", "gradient_norm")  # fmt: skip
        for name in watched:
            assert len(store.metric("policy", name)) == config.policy.iterations, name
        assert store.metric("policy", "held_out_difference")
        assert {i.policy for i in store.instances(selected=True)} == {"tuned"}
    assert len(by_place) == config.policy.iterations * config.policy.rollouts
    for start in range(0, len(by_place), 4):
        several = len({r["instruction_id"] for r in by_place[start : start + 4]}) > 1
        assert several != config.policy.in_groups, "a group is one instruction's"


@pytest.mark.parametrize("algorithm", ["grpo", "rloo"])
def test_before_anything_is_learnt_groups_write_what_ppo_writes(
    algorithm: str, instructed: Path, tiny_config: Config, tmp_path: Path
) -> None:
    """In int8, where the engine works on a copy of the network that is trained."""
    model = tiny_config.model.model_copy(update={"engine": "transformers", "quantization": "int8"})
    other = tiny_config.model_copy(update={"model": model})
    by_algorithm = {}
    for name, settings in {"ppo": {"rollouts": 2, "minibatch": 2}, algorithm: GROUPS}.items():
        folder = tmp_path / name
        config = going_on(instructed, folder, other, algorithm=name, iterations=1, action="pair", **settings)
        Run(config, folder).execute(until="policy")
        with open_run(folder) as store:
            rows = store.query("SELECT text FROM rollouts WHERE split = 'train' ORDER BY position")
            assert len(store.metric("policy", "reward_mean")) == 1
        by_algorithm[name] = [row["text"] for row in rows]
    assert by_algorithm[algorithm][::4] == by_algorithm["ppo"]


def test_mipo_tells_apart_what_was_written_for_two_instructions_behind_one_prompt(
    instructed: Path, tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Learn] = []
    real = policy.learn

    def looked_at(trainer: Any, order: Learn, parts: Any, team: Any) -> dict[str, float]:
        seen.append(order)
        return real(trainer, order, parts, team)

    monkeypatch.setattr("refine_af.stages.policy.learn", looked_at)
    config = going_on(instructed, tmp_path / "run", tiny_config, algorithm="mipo", rollouts=8, iterations=1)
    Run(config, tmp_path / "run").execute(until="policy")
    (order,) = seen
    pairs = list(zip(order.trajectories[::2], order.trajectories[1::2], strict=True))
    assert len(pairs) >= 2
    for preferred, other in pairs:
        assert (preferred.prefix_ids, preferred.prompt_ids) == (other.prefix_ids, other.prompt_ids)
    written = {one.response_ids for one, _ in pairs}
    assert all(other.response_ids in written for _, other in pairs)
    assert any(preferred.response_ids != other.response_ids for preferred, other in pairs)


def test_best_of_n_writes_the_rollouts_as_candidates_of_the_initial_policy(
    instructed: Path, tiny_config: Config, tmp_path: Path
) -> None:
    config = going_on(instructed, tmp_path / "run", tiny_config, algorithm="best_of_n")
    Run(config, tmp_path / "run").execute()
    with open_run(tmp_path / "run") as store:
        instructions = len(store.instructions(origin="generated"))
        read = store.scalar("SELECT read FROM stages WHERE name = 'instances'")
        written = store.instances()
        assert not store.query("SELECT 1 FROM rollouts")
    each = read / instructions
    sampled = config.policy.iterations * config.policy.rollouts
    assert each * instructions - config.instances.candidates * instructions >= sampled
    assert (each - 1) * instructions - config.instances.candidates * instructions < sampled
    assert {i.policy for i in written} == {"seed", "initial"}
    assert f"had {each:.0f} candidate pairs" in (tmp_path / "run" / "dataset" / "README.md").read_text()
    assert "</html>" in (tmp_path / "run" / "report.html").read_text()


def test_without_best_of_n_there_are_as_many_candidates_as_asked_for(tiny_config: Config) -> None:
    assert tiny_config.candidates(10) == tiny_config.instances.candidates


def test_a_guard_stops_groups_too_and_the_kept_policy_is_the_runs(
    instructed: Path, tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def at_the_third(config: Any, target: float, curves: Any) -> Alarm | None:
        return Alarm("diversity", "stop", "told so") if curves["distinct_2"][-1][0] == 3 else None

    monkeypatch.setattr("refine_af.stages.policy.alarm", at_the_third)
    folder = tmp_path / "run"
    settings = {"algorithm": "grpo", "iterations": 5, "kl_coefficient": 0.0, "held_out_every": 2}
    Run(going_on(instructed, folder, tiny_config, **GROUPS, **settings), folder).execute(until="policy")
    with open_run(folder) as store:
        assert len(store.metric("policy", "reward_mean")) == 3
        assert [step for step, _ in store.metric("policy", "check/gain")] == [2]
    kept = folder / "checkpoints" / "iteration-00001" / "adapter_model.safetensors"
    assert (folder / "policy" / "adapter_model.safetensors").read_bytes() == kept.read_bytes()


def test_rollouts_that_are_all_empty_end_the_run_with_a_reason(
    instructed: Path, tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, real = going_on(instructed, tmp_path / "run", tiny_config), policy.sampled

    def empty(*given: Any) -> tuple[list[Any], dict[str, float]]:
        written, checked = real(*given)
        return [replace(w, turns=tuple(map(wordless, w.turns))) for w in written], checked

    def wordless(turn: WrittenTurn) -> WrittenTurn:
        return replace(turn, completion=replace(turn.completion, token_ids=()))

    monkeypatch.setattr(policy, "sampled", empty)
    with pytest.raises(RefineError, match=r"none of the \d+ rollouts of iteration 1 holds anything to learn from"):
        Run(config, tmp_path / "run").execute(until="policy")


def test_a_step_that_is_not_finite_ends_the_run_and_keeps_its_responses(
    instructed: Path, tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    config = going_on(instructed, folder, tiny_config, algorithm="rloo", **GROUPS)
    monkeypatch.setattr("refine_af.rl.algorithms.policy_loss", lambda new, *_: (new.sum() * math.nan, new.sum()))
    with pytest.raises(RefineError, match=r"not finite at iteration 1; the step's \d responses are kept in .+\. Start"):
        Run(config, folder).execute(until="policy")
    rows = [json.loads(line) for line in (folder / "not-finite-00001.jsonl").read_text().splitlines()]
    assert 1 <= len(rows) <= GROUPS["minibatch"]
    assert all(row["prompt"] and row["response"] for row in rows)
    monkeypatch.undo()
    Run(config, folder).execute(until="policy")
