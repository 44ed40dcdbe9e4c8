"""Promises of feedback inside a run: what it stopped at is kept, what was scored is not scored again, and neither shows
in the rows at the end."""

from __future__ import annotations

import json
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest

from refine_af.config import Config, FeedbackConfig
from refine_af.errors import RefineError, UsageError
from refine_af.feedback.ranking import rank_file
from refine_af.progress import Silent
from refine_af.report import write_report
from refine_af.run import Run, open_run
from refine_af.store import Store

REWARD = """
from pathlib import Path
calls = 0
def reward(prompts, completions, **kwargs):
    global calls
    calls += 1
    broken = Path("broken").exists() and calls > 2
    return [float("nan") if broken else len(text) / 100 for text in completions]
"""
TABLES = ("instructions", "instances", "scores", "rejections", "calibrations", "known_scores", "unjudged")


def rows(folder: Path) -> dict[str, list[tuple[Any, ...]]]:
    db = sqlite3.connect(folder / "run.db")
    found = {table: db.execute(f"SELECT * FROM {table} ORDER BY rowid").fetchall() for table in TABLES}
    db.close()
    return found


@pytest.fixture
def config(tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """The control with a composite of rules, the run's model and a function that fails while a file is there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "flaky_reward", raising=False)
    (tmp_path / "flaky_reward.py").write_text(REWARD)
    feedback = FeedbackConfig.model_validate(
        {
            "name": "composite",
            "calibrated_on": 6,
            "scorers": {
                "likelihood": {},
                "variety": {"weight": 0.5, "minimum": 0.2, "cap": -1},
                "own": {"use": "flaky_reward:reward", "calibrated": False},
            },
        }
    )
    policy = tiny_config.policy.model_copy(update={"algorithm": "none"})
    instructions = tiny_config.instructions.model_copy(update={"target": 10})
    model = tiny_config.model.model_copy(update={"batch_size": 2})  # so that there are several batches
    update = {"feedback": feedback, "policy": policy, "instructions": instructions, "model": model}
    return tiny_config.model_copy(update=update)


def test_too_few_seeds_for_the_embedded_reward_are_told_before_anything_is_written(
    tiny_config: Config, tmp_path: Path
) -> None:
    few = tiny_config.model_copy(
        update={
            "feedback": FeedbackConfig(name="embedded"),
            "seeds": tiny_config.seeds.model_copy(update={"held_out": 0.97, "path": None}),
        }
    )
    with pytest.raises(UsageError, match=r"only \d seed tasks .* lower seeds\.held_out"):
        Run(few, tmp_path / "run").execute()
    assert not (tmp_path / "run").exists()


def test_a_scorer_that_fails_stops_the_run_and_costs_no_row(config: Config, tmp_path: Path) -> None:
    Path("broken").touch()
    with pytest.raises(RefineError, match="scorer 'own' returned nan for the output") as caught:
        Run(config, tmp_path / "run").execute(until="instances")
    assert "the same command goes on from here" in str(caught.value)
    assert sys.modules["flaky_reward"].calls == 3  # no batch was made behind the one that failed
    stopped = rows(tmp_path / "run")
    assert stopped["instances"]
    assert stopped["unjudged"]
    assert all("returned nan" in error for _, _, error in stopped["unjudged"])

    Path("broken").unlink()
    Run(config, tmp_path / "run").execute(until="instances")
    Run(config, tmp_path / "whole").execute(until="instances")
    ended, whole = rows(tmp_path / "run"), rows(tmp_path / "whole")
    assert ended["unjudged"] == []
    assert ended == whole


def test_what_a_reward_is_made_of_can_be_added_up_from_the_rows(config: Config, tmp_path: Path) -> None:
    Run(config, tmp_path / "run").execute(until="instances")
    with open_run(tmp_path / "run") as store:
        for instance in store.instances(policy="initial"):
            found = store.query("SELECT scorer, value, share FROM scores WHERE instance_id = ?", instance.id)
            shares = {r["scorer"]: r["share"] for r in found}
            assert set(shares) == {"likelihood", "variety", "own"}
            total = sum(shares.values())
            assert instance.reward == pytest.approx(total if dict(found[-1])["value"] >= 0.2 else min(total, -1))
        assert set(store.calibrations()) == {"likelihood", "variety", "own"}
        scored = store.scalar("SELECT COUNT(DISTINCT scorer) FROM known_scores")
        assert scored == 2  # not the user's function, of which nothing is known
        write_report(store, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "What each component adds to the reward" in page


def test_the_pairs_of_a_run_scored_as_a_file_get_the_rewards_of_the_run(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFINE_AF_CACHE", str(tmp_path / "cache"))
    Run(config, tmp_path / "run").execute(until="instances")
    rows = [json.loads(line) for line in (tmp_path / "run" / "dataset" / "train.jsonl").read_text().splitlines()]
    ranked = rank_file(tmp_path / "run" / "dataset" / "train.jsonl", config, None, Silent())
    assert rows
    assert ranked.rewards == pytest.approx([row["reward"] for row in rows], abs=1e-4)


def older(folder: Path) -> None:
    """Takes a run's database back to before feedback had tables, and its config to before it had options."""
    db = sqlite3.connect(folder / "run.db")
    for table in ("calibrations", "known_scores", "unjudged"):
        db.execute(f"DROP TABLE {table}")
    db.execute("ALTER TABLE scores DROP COLUMN share")
    db.execute("DELETE FROM migrations WHERE name = '0002_feedback'")
    config = json.loads(db.execute("SELECT config FROM runs").fetchone()[0])
    config["feedback"].pop("scorers", None)
    db.execute("UPDATE runs SET config = ?", (json.dumps(config),))
    db.commit()
    db.close()


def test_a_run_of_an_older_version_can_be_looked_at_and_goes_on(tiny_config: Config, tmp_path: Path) -> None:
    Run(tiny_config, tmp_path / "run").execute(until="seeds")
    older(tmp_path / "run")
    with open_run(tmp_path / "run") as store:
        write_report(store, tmp_path / "report.html")
    older(tmp_path / "run")
    Run(tiny_config, tmp_path / "run").execute(until="seeds")
    with Store(tmp_path / "run" / "run.db", read_only=True) as store:
        assert not store.is_outdated()
        assert store.query("SELECT * FROM events WHERE kind = 'config'") == []
