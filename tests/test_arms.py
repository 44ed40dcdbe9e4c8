"""Whole runs with arms on a tiny model: data sets that differ in the policy alone, models trained and evaluated alike,
and the same rows and files wherever the run is stopped."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import test_run

from refine_af.cli_options import made_config
from refine_af.config import Config
from refine_af.errors import RefineError, UsageError
from refine_af.evaluation.compare import compare_evaluations
from refine_af.evaluation.comparison_files import read_evaluation
from refine_af.feedback.base import Example
from refine_af.feedback.rules import OwnWordsScorer
from refine_af.report.arms import collect_arms
from refine_af.run import Run, open_run, run_status
from refine_af.store import Store

ARMS = ("initial", "tuned", "best_of_n")
VERBS = ("Write", "Tell", "Describe", "Explain", "List", "Name", "Find")
NOUNS = ("river", "city", "school")
# No model is to be trained for it, and few pairs are worth the same.
REWARD = "feedback={name: composite, scorers: {variety: {}, format: {}, length: {weight: 1}}}"


def task_rows() -> list[dict[str, Any]]:
    return [
        {
            "task": f"task{t}",
            "category": ("Title Generation", "Word Analogy")[t % 2],
            "definition": f"{verb} what stands behind the mountain in winter",
            "instance_id": f"{t}-{i}",
            "input": f"a {noun} and the quiet water of the garden",
            # Words that the tiny model, tuned or not, is given to.
            "references": [f"{('Add', 'Solve')[t % 2]} the {noun}"],
        }
        for t, verb in enumerate(VERBS)
        for i, noun in enumerate(NOUNS)
    ]


@pytest.fixture(scope="session")
def settings(tiny_settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A run of three arms: three trainings of four steps, and a checkpoint after each step."""
    tasks = tmp_path_factory.mktemp("tasks") / "tasks.jsonl"
    tasks.write_text("".join(json.dumps(row) + "\n" for row in task_rows()))
    own = [
        "instances.candidates=4",
        "model.batch_size=8",
        "finetune.epochs=2",
        "finetune.checkpoint_steps=1",
        "finetune.learning_rate=0.05",
        "experiment.arms=[initial, tuned, best_of_n]",
        f"experiment.tasks={tasks}",
        "experiment.max_target=24",
        "experiment.instances=2",
    ]
    return [*tiny_settings, REWARD, *own]


@pytest.fixture(scope="session")
def before(settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run up to the stage `arms`."""
    folder = tmp_path_factory.mktemp("runs") / "before"
    Run(made_config(None, None, None, settings), folder).execute(until="evaluate")
    return folder


@pytest.fixture(scope="session")
def finished(before: Path, settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that was never stopped."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    shutil.copytree(before, folder)
    Run(made_config(None, None, None, settings), folder).execute()
    return folder


def going_on(before: Path, folder: Path, settings: list[str], *changes: str) -> Config:
    """Puts a copy of the run into ``folder``, to go on from there with another experiment."""
    shutil.copytree(before, folder)
    config = made_config(None, None, None, [*settings, *changes])
    with Store(folder / "run.db") as store:
        store.change_config(config.model_dump(mode="json"), "another experiment")
    return config


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def trained(folder: Path, arm: str) -> Path:
    return next(folder.glob(f"arms/{arm}-size*-seed0"))


# -- the data sets -------------------------------------------------------------------------------------


def test_arms_have_the_same_instructions_in_one_order_and_differ_in_who_wrote_the_pairs(finished: Path) -> None:
    rows = {arm: lines(finished / "arms" / arm / "train.jsonl") for arm in ARMS}
    assert rows["initial"]
    assert len({tuple(row["instruction_id"] for row in found) for found in rows.values()}) == 1
    assert {row["policy"] for row in rows["initial"]} == {"initial"}
    assert {row["policy"] for row in rows["tuned"]} == {"tuned"}
    assert "best_of_n" in {row["policy"] for row in rows["best_of_n"]} <= {"best_of_n", "initial"}
    own = sum(row["policy"] == "best_of_n" for row in rows["best_of_n"])
    with open_run(finished) as store:
        assert store.metric("arms", "best_of_n/shared") == [(0, len(rows["best_of_n"]) - own)]


def test_every_arm_takes_the_best_of_what_its_policy_wrote(finished: Path) -> None:
    pools = {"initial": ("initial",), "tuned": ("tuned",), "best_of_n": ("initial", "best_of_n")}
    with open_run(finished) as store:
        instances = store.instances()
    for arm, policies in pools.items():
        for row in lines(finished / "arms" / arm / "train.jsonl"):
            mine = [i for i in instances if i.policy in policies and i.instruction_id == row["instruction_id"]]
            rivals = [i.reward or 0.0 for i in mine if i.sound]
            assert row["reward"] == max(rivals), arm


def test_an_arm_may_choose_by_feedback_of_its_own(before: Path, settings: list[str], tmp_path: Path) -> None:
    arms = "experiment.arms=[initial, {name: own, policy: initial, feedback: own_words}]"
    config = going_on(before, tmp_path / "run", settings, arms, "experiment.instances=1", "finetune.epochs=1")
    Run(config, tmp_path / "run").execute(until="arms")
    by, of = (
        OwnWordsScorer(),
        {arm: lines(tmp_path / "run" / "arms" / arm / "train.jsonl") for arm in ("initial", "own")},
    )
    with open_run(tmp_path / "run") as store:
        texts = {i.id: i.text for i in store.instructions()}
        pool = store.instances(policy="initial")
    for row in of["own"]:
        mine = [i for i in pool if i.instruction_id == row["instruction_id"]]
        scores = by.score([Example(texts[i.instruction_id], i.input, i.output) for i in mine])
        assert by.score([Example(row["instruction"], row["input"], row["output"])]) == [max(scores)]
    assert [row["output"] for row in of["own"]] != [row["output"] for row in of["initial"]]


def test_best_of_n_may_write_as_much_as_training_sampled(finished: Path) -> None:
    with open_run(finished) as store:
        rollouts = store.scalar("SELECT COUNT(*) FROM rollouts WHERE split = 'train'")
        written = store.cursor("arms")["completions"]
        instructions = len(store.instructions(origin="generated"))
        ids = [(i.instruction_id, i.input, i.output) for i in store.instances() if i.policy in ("initial", "best_of_n")]
    assert rollouts <= written < rollouts + instructions
    assert len(set(ids)) == len(ids), "what the initial policy wrote before is a duplicate"


def test_every_text_is_accounted_for(finished: Path) -> None:
    with open_run(finished) as store:
        row = store.query("SELECT * FROM stages WHERE name = 'arms'")[0]
        assert row["read"] == row["kept"] + row["rejected"] > 0
        assert row["rejected"] == store.rejected("arms")
        found = run_status(store)
    assert found["instances"]["best_of_n"] > 0  # type: ignore[index]


def test_rows_that_match_the_evaluation_are_dropped_from_all_arms_and_counted(
    before: Path, settings: list[str], tmp_path: Path
) -> None:
    with open_run(before) as store:
        pairs = store.instances(policy="tuned")
        texts = {i.id: i.text for i in store.instructions()}
    best = max(pairs, key=lambda pair: pair.reward or 0.0)
    tasks = tmp_path / "tasks.jsonl"
    row = {"task": "leak", "definition": texts[best.instruction_id], "input": "", "references": ["a b"]}
    tasks.write_text("".join(json.dumps(one) + "\n" for one in [row, *task_rows()]))
    config = going_on(
        before, tmp_path / "run", settings, f"experiment.tasks={tasks}", "experiment.arms=[initial, tuned]"
    )
    Run(config, tmp_path / "run").execute(until="arms")
    with open_run(tmp_path / "run") as store:
        dropped = store.query(
            "SELECT text, detail FROM rejections WHERE stage = 'arms' AND reason = 'matches an evaluation task'"
        )
    assert dropped
    assert all("to the definition of leak" in row["detail"] for row in dropped)
    for arm in ("initial", "tuned"):
        rows = lines(tmp_path / "run" / "arms" / arm / "train.jsonl")
        assert best.instruction_id not in {row["instruction_id"] for row in rows}


def test_without_a_common_instruction_the_run_says_what_to_try(
    before: Path, settings: list[str], tmp_path: Path
) -> None:
    config = going_on(before, tmp_path / "run", settings, "instances.min_reward=1e6")
    with pytest.raises(RefineError, match=r"no instruction has a pair in every one of experiment\.arms"):
        Run(config, tmp_path / "run").execute(until="arms")


# -- training and evaluation ---------------------------------------------------------------------------


def test_arms_are_trained_for_the_same_steps(finished: Path) -> None:
    with open_run(finished) as store:
        names = [r["stage"] for r in store.query("SELECT DISTINCT stage FROM metrics WHERE stage LIKE 'arms/%size%'")]
        steps = [[step for step, _ in store.metric(name, "loss")] for name in names]
    assert len(names) == len(ARMS)
    assert steps[0] == steps[1] == steps[2] != []


def test_evaluations_are_folders_that_compare_takes_and_gives_what_the_run_says(finished: Path) -> None:
    found = json.loads((finished / "arms" / "comparison.json").read_text())
    control, tuned = (read_evaluation(trained(finished, arm) / "evaluation") for arm in ("initial", "tuned"))
    assert len(control.rows) == 2 * len(VERBS)
    ours = compare_evaluations(control, [tuned]).against[0].overall
    theirs = found["comparisons"][0]["against"][0]
    assert (found["comparisons"][0]["control"], theirs["name"]) == ("initial", "tuned")
    assert (theirs["overall"]["wins"], theirs["overall"]["losses"]) == (ours.wins, ours.losses)
    assert ours.decided > 0, "the tiny model's trainings make no difference, so the test sees nothing"
    assert {versus["name"] for versus in found["comparisons"][1]["against"]} == set(ARMS)
    assert set(found["scores"]) == {"base", *(trained(finished, arm).name for arm in ARMS)}


def test_sizes_and_seeds_make_a_training_each_and_smaller_data_sets_are_in_larger_ones(
    before: Path, settings: list[str], tmp_path: Path
) -> None:
    changes = ("experiment.arms=[initial, tuned]", "experiment.sizes=[2, 4]", "experiment.seeds=[0, 1]")
    config = going_on(before, tmp_path / "run", settings, *changes, "experiment.instances=1", "finetune.epochs=1")
    Run(config, tmp_path / "run").execute()
    folders = {f.name for f in (tmp_path / "run" / "arms").iterdir() if "-size" in f.name}
    assert folders == {f"{arm}-size{k}-seed{s}" for arm in ("initial", "tuned") for k in (2, 4) for s in (0, 1)}
    with open_run(tmp_path / "run") as store:
        found = collect_arms(store)
        few, many = (store.metric(f"arms/initial-size{k}-seed0", "loss") for k in (2, 4))
    assert found is not None
    assert (found.sizes, found.seeds) == ([2, 4], [0, 1])
    assert (len(few), len(many)) == (1, 1)
    assert few != many
    page = (tmp_path / "run" / "report.html").read_text()
    for shown in ("Score over data size", "Seed by seed", "Each task"):
        assert shown in page


def test_a_size_that_is_not_reached_is_told_and_takes_all_there_are(
    before: Path, settings: list[str], tmp_path: Path
) -> None:
    changes = (
        "experiment.arms=[initial, tuned]",
        "experiment.sizes=[14]",
        "finetune.epochs=1",
        "experiment.instances=1",
    )
    config = going_on(before, tmp_path / "run", settings, *changes, "instances.min_reward=0.3")
    Run(config, tmp_path / "run").execute(until="arms")
    with open_run(tmp_path / "run") as store:
        told = [e["text"] for e in store.query("SELECT text FROM events WHERE stage = 'arms' AND kind = 'warning'")]
        there = store.scalar("SELECT COUNT(*) FROM arm_rows WHERE arm = 'tuned'")
    assert there < 14
    assert told == [f"{there} instructions have a pair in every arm, fewer than experiment.sizes asks for"]
    assert (tmp_path / "run" / "arms" / f"tuned-size{there}-seed0" / "model").is_dir()


# -- stopped and resumed -------------------------------------------------------------------------------


def _files(folder: Path) -> dict[str, bytes]:
    """Everything under arms/ by name."""
    return {str(f.relative_to(folder)): f.read_bytes() for f in (folder / "arms").rglob("*") if f.is_file()}


def _reached(folder: Path, sql: str) -> Callable[[], bool]:
    def probe() -> bool:
        db = sqlite3.connect(f"file:{folder / 'run.db'}?mode=ro", uri=True)
        try:
            return bool(db.execute(sql).fetchone()[0])
        finally:
            db.close()

    return probe


def test_killed_in_every_part_a_run_ends_with_the_same_rows_and_files(
    before: Path, finished: Path, settings: list[str], tmp_path: Path
) -> None:
    folder = tmp_path / "killed"
    shutil.copytree(before, folder)
    command = test_run._command(folder, settings)
    places: list[Callable[[], bool]] = [
        _reached(folder, "SELECT COUNT(*) FROM instances WHERE policy = 'best_of_n'"),
        _reached(folder, "SELECT COUNT(*) FROM metrics WHERE stage LIKE 'arms/initial-%'"),
        lambda: any(folder.glob("arms/tuned-*/evaluation/answers.jsonl")),
    ]
    killed = 0
    for place in places:
        process = subprocess.Popen(command, text=True, stderr=subprocess.DEVNULL)
        killed += test_run._stop_when(process, place, signal.SIGKILL) == -signal.SIGKILL
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    assert killed >= 2, "the parts went by before they could be killed"
    ours, theirs = test_run.rows(folder), test_run.rows(finished)
    for table, expected in theirs.items():
        assert ours[table] == expected, table
    assert _files(folder) == _files(finished)


def test_other_tasks_than_it_began_with_are_refused(
    before: Path, settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = tmp_path / "tasks.jsonl"
    tasks.write_text("".join(json.dumps(row) + "\n" for row in task_rows()))
    config = going_on(before, tmp_path / "run", settings, f"experiment.tasks={tasks}")
    with monkeypatch.context() as patch:
        patch.setattr("refine_af.stages.arms._make_data_sets", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            Run(config, tmp_path / "run").execute()
    tasks.write_text("".join(json.dumps(row | {"definition": "Sing"}) + "\n" for row in task_rows()))
    with pytest.raises(UsageError, match="has changed since this run began to use it"):
        Run(config, tmp_path / "run").execute()


# -- what a run without arms, tasks or CTranslate2 does -----------------------------------------------


def test_without_arms_the_stage_leaves_nothing(before: Path, settings: list[str], tmp_path: Path) -> None:
    config = going_on(before, tmp_path / "run", settings, "experiment={arms: []}")
    Run(config, tmp_path / "run").execute()
    assert not (tmp_path / "run" / "arms").exists()
    with open_run(tmp_path / "run") as store:
        assert collect_arms(store) is None
    assert 'id="arms"' not in (tmp_path / "run" / "report.html").read_text()


def test_the_transformers_engine_trains_and_evaluates_arms_too(
    before: Path, settings: list[str], tmp_path: Path
) -> None:
    changes = ("experiment.arms=[initial, tuned]", "model.engine=transformers", "experiment.instances=1")
    config = going_on(before, tmp_path / "run", settings, *changes)
    Run(config, tmp_path / "run").execute(until="arms")
    found = json.loads((tmp_path / "run" / "arms" / "comparison.json").read_text())
    assert {name.partition("-")[0] for name in found["scores"]} == {"base", "initial", "tuned"}
    answers = [lines(trained(tmp_path / "run", arm) / "evaluation/predictions.jsonl") for arm in ("initial", "tuned")]
    assert answers[0] != answers[1]


def test_held_out_seeds_are_the_tasks_where_none_are_given(before: Path, settings: list[str], tmp_path: Path) -> None:
    changes = ("experiment.tasks=null", "experiment.arms=[initial, tuned]", "finetune.epochs=1")
    config = going_on(before, tmp_path / "run", settings, *changes)
    Run(config, tmp_path / "run").execute(until="arms")
    with open_run(tmp_path / "run") as store:
        held_out = {i.id for i in store.instructions(status="held_out")}
    assert {row["id"] for row in lines(tmp_path / "run" / "arms/base/evaluation/predictions.jsonl")} == held_out
