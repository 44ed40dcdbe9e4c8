"""Whole runs whose policy is trained for several seeds: replicas share what came before, differ in what comes after,
and go on where they were stopped."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from test_arms import before, going_on, lines, settings

from refine_af.config import Config
from refine_af.report.arms import collect_arms
from refine_af.run import Run, open_run

__all__ = ["before", "settings"]  # fixtures

CHANGES = (
    "experiment.arms=[self_instruct, tuned, shortest, shuffled]",
    "experiment.policy_seeds=[0, 3]",
    "experiment.likelihood=true",
    "experiment.instances=2",
    "policy.held_out_every=0",
    "finetune.epochs=1",
)


@pytest.fixture(scope="module")
def config_and_run(before: Path, settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Path]:
    """A run with one replica, which is stopped once in its stage `instances` and gone on with."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    config = going_on(before, folder, settings, *CHANGES)

    def stopped(context: Any) -> str:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("refine_af.stages.replicas.run_instances", stopped)
        with pytest.raises(KeyboardInterrupt):
            Run(config, folder).execute()
    with open_run(folder / "policies" / "seed-3") as store:
        assert store.stage_done("policy")
        assert not store.stage_done("instances")
    Run(config, folder).execute()
    return config, folder


def replica_of(folder: Path) -> Path:
    return folder / "policies" / "seed-3"


def test_a_replica_shares_instructions_and_the_base_and_has_rollouts_of_its_own(
    config_and_run: tuple[Config, Path],
) -> None:
    _, folder = config_and_run
    replica = replica_of(folder)
    with open_run(folder) as own, open_run(replica) as other:
        assert [i.text for i in other.instructions()] == [i.text for i in own.instructions()]
        assert other.instances(policy="seed") == own.instances(policy="seed")
        texts = [{row["text"] for row in one.query("SELECT text FROM rollouts")} for one in (own, other)]
        assert not texts[0] & texts[1] >= texts[1]
        assert {row["name"] for row in other.query("SELECT name FROM stages")} == {
            "seeds", "instructions", "policy", "instances", "arms",
        }  # fmt: skip
    weights = [(one / "policy" / "adapter_model.safetensors").read_bytes() for one in (folder, replica)]
    assert weights[0] != weights[1]
    answers = [(one / "arms/base/evaluation/predictions.jsonl").read_bytes() for one in (folder, replica)]
    assert answers[0] == answers[1]


def test_what_holds_across_policies_is_the_mean_of_each_ones_own(config_and_run: tuple[Config, Path]) -> None:
    config, folder = config_and_run
    found = json.loads((folder / "arms" / "comparison.json").read_text())
    across = {(one["arm"], one["figure"]): one for one in found["across_policies"]}
    assert set(across) == {
        (arm, figure)
        for arm in config.experiment.names[1:]
        for figure in ("rouge_l", "content", "margin", "end", "loss")
    }
    for one in across.values():
        assert one["mean"] == pytest.approx(fmean(one["by_policy"].values()))
        assert one["low"] <= one["mean"] <= one["high"]
    replica = json.loads((folder / "policies" / "seed-3" / "arms" / "comparison.json").read_text())
    alone = next(v for v in replica["comparisons"][0]["against"] if v["name"] == "tuned")
    assert across["tuned", "rouge_l"]["by_policy"]["3"] == pytest.approx(alone["overall"]["difference"]["value"])
    margin = next(one for one in alone["likelihoods"] if one["figure"] == "margin")
    assert across["tuned", "margin"]["by_policy"]["3"] == pytest.approx(margin["difference"])
    pooled = next(v for v in found["comparisons"][0]["against"] if v["name"] == "tuned")
    assert pooled["overall"]["difference"]["value"] == pytest.approx(across["tuned", "rouge_l"]["mean"])
    page = (folder / "report.html").read_text()
    assert "for each of 2 policies" in page
    assert "Across policies" in page
    with open_run(folder) as store:
        arms = collect_arms(store)
    assert arms is not None
    both = [
        json.loads((one / "arms" / "comparison.json").read_text())["scores"] for one in (folder, replica_of(folder))
    ]
    own = [next(v["rouge_l"] for name, v in one.items() if name.startswith("tuned-")) for one in both]
    assert arms.pooled_scores["tuned"][0] == pytest.approx(fmean(own))


def test_nonsense_has_the_arms_own_answers_behind_other_instructions(config_and_run: tuple[Config, Path]) -> None:
    _, folder = config_and_run
    sense, nonsense = (lines(folder / "arms" / arm / "train.jsonl") for arm in ("tuned", "shuffled"))
    assert [row["instruction"] for row in nonsense] == [row["instruction"] for row in sense]
    assert sorted(row["output"] for row in nonsense) == sorted(row["output"] for row in sense)
    assert any(a["output"] != b["output"] for a, b in zip(sense, nonsense, strict=True))
    assert all(a["id"] != b["id"] and b["reward"] is None for a, b in zip(sense, nonsense, strict=True)
               if a["output"] != b["output"])  # fmt: skip


def test_the_same_run_again_changes_nothing(config_and_run: tuple[Config, Path], tmp_path: Path) -> None:
    config, folder = config_and_run
    again = tmp_path / "again"
    shutil.copytree(folder, again)
    Run(config, again).execute()
    names = ("arms/comparison.json", "policies/seed-3/arms/comparison.json")
    assert [(again / name).read_bytes() for name in names] == [(folder / name).read_bytes() for name in names]
