"""Promises to those who have a run of a version that wrote a pair in one turn: it can be looked at, goes on where it
has no pair to write, and is refused, as it stands, where it has."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest
import test_run
from example_rows import instance

from refine_af.config import Config
from refine_af.errors import UsageError
from refine_af.records import StageCounts
from refine_af.report import write_report
from refine_af.run import Run, open_run
from refine_af.store import Store


def older(folder: Path) -> None:
    """Takes a run's database back to before turns."""
    db = sqlite3.connect(folder / "run.db")
    for table, column in (
        ("runs", "turns"), ("instructions", "needs_input"), ("instances", "sound"), ("rollouts", "input"),
        ("rollouts", "fault"), ("rollouts", "sound"),
    ):  # fmt: skip
        db.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
    db.execute("DELETE FROM migrations WHERE name >= '0004'")
    db.commit()
    db.close()


def done(folder: Path, *stages: str) -> None:
    """As if these stages were over, with a pair that was selected for each instruction."""
    with Store(folder / "run.db") as store:
        made = store.instructions(origin="generated")
        store.add_instances(instance(f"p{i.id}", i.id, selected=True, reward=0.5) for i in made)
        for stage in stages:
            store.start_stage(stage)
            store.finish_stage(stage, StageCounts())


@pytest.fixture
def folder(instructed: Path, tmp_path: Path) -> Path:
    """A run that has its instructions."""
    shutil.copytree(instructed, tmp_path / "run")
    return tmp_path / "run"


def with_arms(config: Config, *arms: str) -> Config:
    return Config.model_validate(config.model_dump(mode="json") | {"experiment": {"arms": arms}})


def refused(config: Config, folder: Path) -> None:
    before, settings = test_run.rows(folder), (folder / "config.yaml").read_bytes()
    with pytest.raises(
        UsageError,
        match=r"was begun by an earlier refine-af \(.+\), which wrote pairs differently: finish it with that version",
    ) as caught:
        Run(config, folder).execute()
    assert "\n" not in str(caught.value)
    assert "--fresh" in str(caught.value)
    assert (test_run.rows(folder), (folder / "config.yaml").read_bytes()) == (before, settings)


def test_a_run_that_has_begun_its_instructions_is_refused_and_left_as_it_is(folder: Path, tiny_config: Config) -> None:
    older(folder)
    refused(tiny_config, folder)


def test_a_run_that_is_in_the_middle_of_its_pairs_is_refused(folder: Path, tiny_config: Config) -> None:
    done(folder, "policy")
    with Store(folder / "run.db") as store:
        store.start_stage("instances")
    older(folder)
    refused(tiny_config, folder)


def test_looking_at_it_does_not_make_it_a_new_run(folder: Path, tiny_config: Config, tmp_path: Path) -> None:
    older(folder)
    with open_run(folder) as store:
        write_report(store, tmp_path / "report.html")
        assert not store.is_outdated()
        assert not store.writes_pairs_as_now()
    refused(tiny_config, folder)


def test_a_run_that_has_all_its_pairs_goes_on(folder: Path, tiny_config: Config) -> None:
    done(folder, "policy", "instances")
    pairs = test_run.rows(folder)["instances"]
    older(folder)
    Run(tiny_config, folder).execute(until="finetune")
    assert (folder / "model" / "adapter_model.safetensors").is_file()
    assert test_run.rows(folder)["instances"] == pairs
    with open_run(folder) as store:
        assert store.stage_done("finetune")
        assert not store.writes_pairs_as_now()


def test_a_run_with_candidates_to_write_for_best_of_n_is_refused_until_it_has_them(
    folder: Path, tiny_config: Config
) -> None:
    config = with_arms(tiny_config, "initial", "best_of_n")
    done(folder, "policy", "instances")
    with Store(folder / "run.db") as store:
        store.change_config(config.model_dump(mode="json"), "arms")
    older(folder)
    refused(config, folder)
    with Store(folder / "run.db") as store:
        store.start_stage("arms")
        store.finish_stage("arms", StageCounts())
    Run(config, folder).execute(until="instances")


def test_a_run_that_has_seeds_alone_goes_on_as_a_new_one(tiny_config: Config, tmp_path: Path) -> None:
    Run(tiny_config, tmp_path / "run").execute(until="seeds")
    seeds = test_run.rows(tmp_path / "run")
    older(tmp_path / "run")
    Run(tiny_config, tmp_path / "run").execute(until="seeds")
    assert test_run.rows(tmp_path / "run") == seeds
    with open_run(tmp_path / "run") as store:
        assert store.writes_pairs_as_now()


@pytest.mark.parametrize("paid_as_now", [True, False])
def test_a_run_whose_policy_was_learning_otherwise_is_refused_and_one_that_is_past_it_goes_on(
    folder: Path, tiny_config: Config, paid_as_now: bool
) -> None:
    """Before, values were clipped by an option that is no more; later, policies were paid what pairs are chosen by."""
    with Store(folder / "run.db") as store:
        known = tiny_config.model_dump(mode="json")
        if paid_as_now:
            known["policy"]["value_clip_range"] = 0.2
        else:
            del known["feedback"]["training_weights"]
        store.change_config(known, "as an earlier version wrote it")
        store.start_stage("policy")
    before = test_run.rows(folder)
    with pytest.raises(UsageError, match=r"earlier refine-af \(.+\), which trained the policy differently: finish"):
        Run(tiny_config, folder).execute()
    assert test_run.rows(folder) == before
    done(folder, "policy", "instances", "finetune", "evaluate", "arms")
    Run(tiny_config, folder).execute()
