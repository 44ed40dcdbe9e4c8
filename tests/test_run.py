"""A whole run on a tiny model: what it leaves behind, and that stopping it anywhere changes none of its rows."""

from __future__ import annotations

import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from refine_af.config import Config
from refine_af.errors import UsageError
from refine_af.run import STAGES, Run, open_run, run_status
from refine_af.store import Store

_CLOCKS = {"runs": {"created_at"}, "stages": {"started_at", "finished_at"}}


def rows(folder: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every table's rows without the times in them; events are times with a text."""
    db = sqlite3.connect(folder / "run.db")
    found = {}
    for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall():
        if table == "events" or table.startswith("sqlite_"):
            continue
        columns = [c[1] for c in db.execute(f"PRAGMA table_info({table})") if c[1] not in _CLOCKS.get(table, set())]
        found[table] = db.execute(f"SELECT {', '.join(columns)} FROM {table} ORDER BY rowid").fetchall()
    db.close()
    return found


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_config: Config) -> Path:
    """A run that was never stopped."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    Run(tiny_config, folder).execute()
    return folder


def test_a_run_ends_with_data_set_model_evaluation_and_report(finished: Path, tiny_config: Config) -> None:
    table = pq.read_table(finished / "dataset" / "train.parquet").to_pylist()
    lines = [json.loads(line) for line in (finished / "dataset" / "train.jsonl").read_text().splitlines()]
    assert table == lines
    assert table
    assert {r["policy"] for r in table} == {"tuned"}
    assert (finished / "dataset" / "README.md").is_file()
    for part in ("policy", "model"):
        assert (finished / part / "adapter_model.safetensors").is_file()
        assert (finished / part / "adapter_config.json").is_file()
    assert len((finished / "evaluation" / "tuned.jsonl").read_text().splitlines()) == round(
        175 * tiny_config.seeds.held_out
    )
    scores = json.loads((finished / "evaluation" / "scores.json").read_text())
    for figure in ("content", "margin"):
        gain = scores[f"tuned_{figure}"] - scores[f"base_{figure}"]
        assert scores[f"{figure}_difference"] == pytest.approx(gain, abs=1e-3)
        assert scores[f"{figure}_difference_low"] <= gain <= scores[f"{figure}_difference_high"]
    assert "</html>" in (finished / "report.html").read_text()


def test_every_stage_accounts_for_every_row(finished: Path) -> None:
    with open_run(finished) as store:
        for stage in STAGES:
            row = store.query("SELECT * FROM stages WHERE name = ?", stage)[0]
            assert row["status"] == "done"
            assert row["read"] == row["kept"] + row["rejected"] + row["failed"]
            if stage in ("instructions", "instances"):
                assert row["rejected"] == store.rejected(stage)


def test_the_target_is_kept_and_nothing_kept_twice(finished: Path, tiny_config: Config) -> None:
    with open_run(finished) as store:
        texts = [i.text for i in store.instructions(origin="generated")]
    assert len(texts) == tiny_config.instructions.target
    assert len(set(texts)) == len(texts)


def test_an_instruction_that_needs_an_input_has_pairs_with_one_and_no_other_has(finished: Path) -> None:
    with open_run(finished) as store:
        needs = {i.id: i.needs_input for i in store.instructions(origin="generated")}
        pairs = [i for policy in ("initial", "tuned") for i in store.instances(policy=policy)]
    assert {bool(pair.input) for pair in pairs} == {True, False}
    assert all(bool(pair.input) == needs[pair.instruction_id] for pair in pairs)


def test_a_proposal_opens_as_one_of_the_tasks_that_it_was_shown(finished: Path) -> None:
    with open_run(finished) as store:
        texts = {i.id: i.text for i in store.instructions()}
        made = store.instructions(origin="generated")
    assert all(i.text.split()[:2] == texts[i.prompt_ids[0]].split()[:2] for i in made)


def test_a_rollout_has_a_fault_or_is_a_pair_and_a_fault_has_the_floor(finished: Path) -> None:
    with open_run(finished) as store:
        found = store.query("SELECT input, text, fault, reward FROM rollouts")
    faulty = [row for row in found if row["fault"] is not None]
    assert 0 < len(faulty) < len(found)
    assert len({row["reward"] for row in faulty}) == 1
    assert all(row["text"] for row in found if row["fault"] is None)


def test_counts_balance_with_lists_too(tiny_config: Config, tmp_path: Path) -> None:
    listed = tiny_config.instructions.model_copy(update={"method": "list"})
    Run(tiny_config.model_copy(update={"instructions": listed}), tmp_path / "run").execute(until="instructions")
    with open_run(tmp_path / "run") as store:
        (row,) = store.query("SELECT * FROM stages WHERE name = 'instructions'")
        by_round = store.metric("instructions", "read")
        assert row["kept"] == len(store.instructions(origin="generated")) == listed.target
        assert row["rejected"] == store.rejected("instructions")
    assert row["read"] == row["kept"] + row["rejected"] == sum(read for _, read in by_round)


def test_held_out_seeds_are_never_shown(finished: Path) -> None:
    with open_run(finished) as store:
        held_out = {i.id for i in store.instructions(status="held_out")}
        shown = {d for i in store.instructions(origin="generated") for d in i.prompt_ids}
        rolled_out = {r["instruction_id"] for r in store.query("SELECT instruction_id FROM rollouts")}
    assert held_out
    assert not held_out & (shown | rolled_out)


def test_the_selected_instance_is_its_instructions_best(finished: Path) -> None:
    with open_run(finished) as store:
        tuned = store.instances(policy="tuned")
    for chosen in (i for i in tuned if i.selected):
        rivals = [i.reward for i in tuned if i.sound and i.instruction_id == chosen.instruction_id]
        assert chosen.reward == max(r for r in rivals if r is not None)


def test_the_same_config_gives_the_same_rows(finished: Path, tiny_config: Config, tmp_path: Path) -> None:
    Run(tiny_config, tmp_path / "again").execute(until="instances")
    ours, theirs = rows(tmp_path / "again"), rows(finished)
    for table in ("instructions", "instances", "rejections", "scores", "rollouts"):
        assert ours[table] == theirs[table]


def test_another_config_is_refused_with_the_difference(finished: Path, tiny_config: Config) -> None:
    before = rows(finished)
    other = tiny_config.model_copy(update={"seed": 7})
    with pytest.raises(UsageError, match=r"seed: 0 -> 7"):
        Run(other, finished).execute()
    assert rows(finished) == before


def test_a_finished_run_started_again_does_nothing(finished: Path, tiny_config: Config) -> None:
    before = rows(finished)
    started = time.monotonic()
    Run(tiny_config, finished).execute()
    assert rows(finished) == before
    assert time.monotonic() - started < 5


def test_status_tells_the_stages_and_the_reward(finished: Path, tiny_config: Config) -> None:
    with open_run(finished) as store:
        found = run_status(store)
    assert found["instructions"] == tiny_config.instructions.target
    assert len(found["reward"]) == tiny_config.policy.iterations  # type: ignore[arg-type]


def test_what_each_component_adds_is_kept_for_every_iteration_and_before_and_after(
    finished: Path, tiny_config: Config
) -> None:
    with open_run(finished) as store:
        components = set(store.calibrations())
        assert components
        for name in components:
            assert len(store.metric("policy", f"share/{name}")) == tiny_config.policy.iterations
        for split in ("before", "after"):
            assert all(store.metric("policy", f"held_out_{split}/{name}") for name in components)


def test_without_training_the_initial_policys_pairs_are_selected(tiny_config: Config, tmp_path: Path) -> None:
    policy = tiny_config.policy.model_copy(update={"algorithm": "none"})
    Run(tiny_config.model_copy(update={"policy": policy}), tmp_path / "control").execute(until="instances")
    with open_run(tmp_path / "control") as store:
        selected = store.instances(selected=True)
    assert selected
    assert {i.policy for i in selected} == {"initial"}


def test_the_transformers_engine_goes_the_whole_way_too(tiny_config: Config, tmp_path: Path) -> None:
    model = tiny_config.model.model_copy(update={"engine": "transformers"})
    Run(tiny_config.model_copy(update={"model": model}), tmp_path / "run").execute()
    assert (tmp_path / "run" / "report.html").is_file()


def test_saturation_stops_the_stage_and_is_told(tiny_config: Config, tmp_path: Path) -> None:
    # Of the continuations of an opening one is kept at most, so that no round keeps half of what it reads.
    settings = tiny_config.instructions.model_copy(update={"saturation_rounds": 2, "saturation_yield": 0.5})
    Run(tiny_config.model_copy(update={"instructions": settings}), tmp_path / "run").execute(until="instructions")
    with open_run(tmp_path / "run") as store:
        told = [e["text"] for e in store.query("SELECT text FROM events WHERE kind = 'warning'")]
        kept = len(store.instructions(origin="generated"))
    assert 0 < kept < settings.target
    assert any(
        "at most 50% of each of 2 rounds in a row was new" in text and f"{kept} of {settings.target}" in text
        for text in told
    )


# -- stopped and resumed ---------------------------------------------------------------------------------


def _command(folder: Path, overrides: list[str]) -> list[str]:
    sets = [part for override in overrides for part in ("--set", override)]
    return [sys.executable, "-m", "refine_af", "run", "--out", str(folder), *sets]


def _begun(stage: str, folder: Path) -> Callable[[], bool]:
    """Whether the stage has finished a unit of work (or, where it has but one, has begun)."""
    probes = {
        "instructions": "SELECT COUNT(*) FROM metrics WHERE stage = 'instructions'",
        "policy": "SELECT COUNT(*) FROM metrics WHERE stage = 'policy'",
        "instances": "SELECT COUNT(*) FROM instances WHERE policy = 'initial'",
        "finetune": "SELECT COUNT(*) FROM metrics WHERE stage = 'finetune'",
        "evaluate": "SELECT COUNT(*) FROM predictions",
    }

    def probe() -> bool:
        try:
            db = sqlite3.connect(f"file:{folder / 'run.db'}?mode=ro", uri=True)
            try:
                return bool(db.execute(probes[stage]).fetchone()[0])
            finally:
                db.close()
        except sqlite3.OperationalError:
            return False

    return probe


def _stop_when(process: subprocess.Popen[str], reached: Callable[[], bool], with_signal: int) -> int:
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if reached():
            process.send_signal(with_signal)
            break
        time.sleep(0.02)
    return process.wait(timeout=60)


def test_killed_in_every_stage_a_run_ends_with_the_same_rows(
    finished: Path, tiny_settings: list[str], tmp_path: Path
) -> None:
    folder = tmp_path / "killed"
    killed = []
    for stage in ("instructions", "policy", "instances", "finetune", "evaluate"):
        process = subprocess.Popen(_command(folder, tiny_settings), text=True, stderr=subprocess.DEVNULL)
        code = _stop_when(process, _begun(stage, folder), signal.SIGKILL)
        killed.append(code == -signal.SIGKILL)
    subprocess.run(_command(folder, tiny_settings), check=True, stderr=subprocess.DEVNULL)
    assert sum(killed) >= 4, "the stages went by before they could be killed"
    ours, theirs = rows(folder), rows(finished)
    assert ours.keys() == theirs.keys()
    for table, expected in theirs.items():
        assert ours[table] == expected, table


def test_control_c_ends_with_130_and_says_how_to_go_on(tiny_settings: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "stopped"
    process = subprocess.Popen(_command(folder, tiny_settings), text=True, stderr=subprocess.PIPE)
    code = _stop_when(process, _begun("instructions", folder), signal.SIGINT)
    assert process.stderr is not None
    last = process.stderr.read().strip().splitlines()[-1]
    assert code == 130
    assert "the same command goes on" in last


def test_a_full_disk_is_one_line_and_costs_nothing_that_was_done(
    finished: Path, tiny_settings: list[str], tmp_path: Path
) -> None:
    folder = tmp_path / "full"
    limited = subprocess.run(
        _command(folder, [*tiny_settings]) + ["--until", "instructions", "--quiet"],
        text=True,
        capture_output=True,
        # No file may grow beyond this: to the program, the disk is full.
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, resource.RLIM_INFINITY)),
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        check=False,
    )
    assert limited.returncode == 2, limited.stderr
    assert len(limited.stderr.strip().splitlines()) == 1
    assert "no space left" in limited.stderr
    subprocess.run(_command(folder, tiny_settings) + ["--until", "instructions", "--quiet"], check=True)
    assert rows(folder)["instructions"] == [
        # Later stages add nothing to this table.
        *rows(finished)["instructions"]
    ]


def test_a_second_process_in_the_same_folder_is_refused(finished: Path, tiny_config: Config) -> None:
    import fcntl

    with (finished / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="another process"):
            Run(tiny_config, finished).execute()


@pytest.mark.timeout(1200)  # with the model's preparation, on any machine
@pytest.mark.embedded
def test_the_embedded_model_goes_the_whole_way(tmp_path: Path) -> None:
    from refine_af.config import load_config

    config = load_config(
        preset="embedded",
        overrides=[
            "threads=1",
            "instructions.target=8",
            "instructions.prompts_per_round=8",
            "policy.iterations=1",
            "policy.rollouts=4",
            "policy.held_out=2",
            "policy.held_out_samples=1",
            "instances.candidates=2",
            # The preset's reward and witness read anchors for a minute: .ci/run has them in its run.
            "feedback.name=likelihood",
            "policy.guards.witness=null",
            "feedback.calibrated_on=8",
            "finetune.epochs=1",
            "seeds.held_out=0.02",
            "evaluation.max_tokens=16",
        ],
    )
    Run(config, tmp_path / "run").execute()
    with open_run(tmp_path / "run") as store:
        assert len(store.instructions(origin="generated")) == 8
        assert len(store.instances(selected=True)) >= 4
        rewards = [i.reward for i in store.instances(policy="tuned")]
    assert all(r is not None and -11 < r < 0 for r in rewards), "worse than a guess among 49,152 tokens, or certain"


def test_how_much_is_computed_at_once_may_change_while_a_run_goes_on(tiny_config: Config, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    Run(tiny_config, folder).execute(until="instructions")
    smaller = tiny_config.policy.model_copy(update={"micro_batch": 1})
    Run(tiny_config.model_copy(update={"policy": smaller, "threads": 2}), folder).execute(until="policy")
    with open_run(folder) as store:
        changes = [e["text"] for e in store.query("SELECT text FROM events WHERE kind = 'config'")]
        config = store.run_config()
    assert changes == ["threads: 1 -> 2; policy.micro_batch: 3 -> 1"]
    assert config is not None
    assert config["policy"]["micro_batch"] == 1


def test_options_may_change_as_long_as_the_stage_that_reads_them_has_not_begun(
    tiny_config: Config, tmp_path: Path
) -> None:
    def with_rank(rank: int) -> Config:
        lora = tiny_config.finetune.lora.model_copy(update={"rank": rank})
        return tiny_config.model_copy(update={"finetune": tiny_config.finetune.model_copy(update={"lora": lora})})

    Run(tiny_config, tmp_path).execute("seeds")
    Run(with_rank(5), tmp_path).execute("seeds")
    with open_run(tmp_path) as store:
        assert (store.run_config() or {})["finetune"]["lora"]["rank"] == 5
        [change] = [e["text"] for e in store.query("SELECT text FROM events WHERE text LIKE '%rank%'")]
    assert change.startswith("finetune.lora.rank: 4 -> 5")
    with Store(tmp_path / "run.db") as store:
        store.start_stage("finetune")
    with pytest.raises(UsageError, match=r"finetune\.lora\.rank: 5 -> 6"):
        Run(with_rank(6), tmp_path).execute("seeds")


@pytest.mark.parametrize("option", ["instructions", "instances"])
def test_what_instructions_were_written_by_may_not_change_behind_them(
    tiny_config: Config, tmp_path: Path, option: str
) -> None:
    changes = {"instructions": {"target": 15}, "instances": {"inputs": "never"}}[option]
    Run(tiny_config, tmp_path).execute("seeds")
    with Store(tmp_path / "run.db") as store:
        store.start_stage("instructions")
    other = tiny_config.model_copy(update={option: getattr(tiny_config, option).model_copy(update=changes)})
    with pytest.raises(UsageError, match=f"{option}.{next(iter(changes))}"):
        Run(other, tmp_path).execute("seeds")


@pytest.mark.parametrize("section", ["policy", "finetune"])
def test_layers_that_are_not_there_are_told_before_anything_is_written(
    tiny_config: Config, tmp_path: Path, section: str
) -> None:
    part = getattr(tiny_config, section)
    lora = part.lora.model_copy(update={"targets": ("q_proj", "v_prj")})
    config = tiny_config.model_copy(update={section: part.model_copy(update={"lora": lora})})
    with pytest.raises(UsageError, match=rf"{section}\.lora\.targets v_prj: no such layers in .*there are: .*v_proj"):
        Run(config, tmp_path / "run").execute()
    assert not (tmp_path / "run").exists()


def test_the_names_of_layers_are_known_without_the_weights(tiny_model: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, GPT2Config

    from refine_af.lora import adaptable_layers, bare_network

    with torch.device("meta"):
        gpt2 = AutoModelForCausalLM.from_config(GPT2Config(n_layer=1, n_embd=8, n_head=1))
    assert adaptable_layers(gpt2) == {"c_attn", "c_proj", "c_fc"}
    loaded = AutoModelForCausalLM.from_pretrained(tiny_model)
    assert adaptable_layers(bare_network(tiny_model)) == adaptable_layers(loaded)
    assert "lm_head" not in adaptable_layers(loaded)
