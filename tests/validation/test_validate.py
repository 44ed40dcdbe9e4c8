"""`validate-feedback`: what it makes of a run's candidates, how it goes on, and what it refuses to say."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from refine_af.cli import app
from refine_af.config import load_config
from refine_af.errors import UsageError
from refine_af.evaluation.references import FIGURES, of_seeds, of_tasks
from refine_af.feedback.base import Example
from refine_af.parts import Parts
from refine_af.progress import Silent
from refine_af.records import SeedTask
from refine_af.run import Run
from refine_af.store import Store
from refine_af.validation import validate as module
from refine_af.validation.choices import BEST, CHANCE, ECHO, NONSENSE, SHORTEST, SHUFFLED, WORST, Candidate, by_reward
from refine_af.validation.gains import Gain
from refine_af.validation.validate import arms_of, validate
from refine_af.validation.verdict import verdict

ARMS = {CHANCE, BEST, WORST, *NONSENSE}


@pytest.fixture(scope="module")
def run(tiny_settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with candidates, and without a trained policy."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    settings = ["policy.algorithm=none", "feedback.name=length", "feedback.scorers.length.weight=1"]
    Run(load_config(overrides=[*tiny_settings, *settings]), folder).execute(until="instances")
    return folder


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FEWEST", 4)


def groups() -> list[list[Candidate]]:
    made = []
    for task in range(6):
        pairs = [Example(f"Task {task}.", "", f"{'word ' * (3 - n)}of {task} {n}") for n in range(3)]
        made.append([Candidate(pair, float(n), sound=n < 2) for n, pair in enumerate(pairs)])
    return made


def test_arms_are_choices_out_of_the_same_instructions() -> None:
    arms = arms_of(groups(), seed=1)
    assert set(arms) == ARMS
    instructions = [f"Task {task}." for task in range(6)]
    assert all([one.instruction for one in pairs] == instructions for pairs in arms.values())
    assert [one.output for one in arms[BEST]] == [
        f"word word of {task} 1" for task in range(6)
    ]  # the best that is sound
    assert [one.output for one in arms[SHORTEST]] == [f"word of {task} 2" for task in range(6)]
    assert [one.output for one in arms[ECHO]] == instructions
    assert sorted(one.output for one in arms[SHUFFLED]) == sorted(one.output for one in arms[CHANCE])


def test_the_worst_are_those_that_would_be_chosen_last() -> None:
    assert [one.output for one in by_reward(groups(), highest=False)] == [f"word of {task} 2" for task in range(6)]


def test_seeds_are_asked_in_groups_of_one_kind(tiny_config: Any, tmp_path: Path) -> None:
    labels = [SeedTask(f"c{n}", f"Is {n} even?", "", f"Answer {n}", is_classification=True) for n in range(4)]
    texts = [SeedTask(f"t{n}", f"Say {n}.", "", "word " * (n + 1), is_classification=False) for n in range(11)]
    same = [replace(texts[0], id="t20", instruction="Say nothing.")]
    found = of_seeds(Parts(tiny_config, tmp_path), [*labels, *texts, *same])
    assert sorted(len(one.references) for one in found) == [4, 5, 6]
    assert all(len(set(one.references)) == len(one.references) for one in found)
    assert of_seeds(Parts(tiny_config, tmp_path), labels[:2]) == []


def test_as_many_tasks_are_asked_as_there_are_if_they_are_enough(tiny_config: Any, tmp_path: Path) -> None:
    rows = [
        {"task": f"t{t}", "definition": f"Say {t}.", "instance_id": f"{t}-{i}", "input": "the river", "output": f"{i}"}
        for t in range(6)
        for i in range(3)
    ]
    (tmp_path / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    parts = Parts(tiny_config, tmp_path)
    assert len(of_tasks(parts, tmp_path / "tasks.jsonl", fewest=6)) == 6
    assert len(of_tasks(parts, tmp_path / "tasks.jsonl", tasks=4)) == 4
    with pytest.raises(UsageError, match="has 6 tasks to ask, and 7 are needed: a task takes 3 instances"):
        of_tasks(parts, tmp_path / "tasks.jsonl", fewest=7)


def test_a_validation_says_its_verdict_and_goes_on(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {"args": ["validate-feedback", str(run), "--trainings", "1", "--json", "--quiet"]}
    first = CliRunner().invoke(app, **asked)
    assert first.exit_code == 0, first.output
    found = json.loads(first.stdout)
    assert set(found["gains"]) == ARMS - {CHANCE}
    assert set(found["words"]) == ARMS
    assert set(found["gains"][BEST]) == set(FIGURES)
    assert found["words"][BEST] >= found["words"][CHANCE] >= found["words"][WORST]
    assert "length" in found["verdict"]
    monkeypatch.setattr(module.Students, "_tuned", lambda *a: pytest.fail("a student was trained again"))
    assert json.loads(CliRunner().invoke(app, **asked).stdout) == found
    shown = CliRunner().invoke(app, [a for a in asked["args"] if a != "--json"])
    assert shown.exit_code == 0
    assert "nonsense" in shown.stdout


def test_another_reward_than_the_runs_is_asked_for_by_its_name(run: Path) -> None:
    config = load_config(run / "config.yaml", overrides=["feedback=null", "feedback.name=variety"])
    assert validate(run, config, None, 1, Silent()).reward == "variety"


def test_what_the_arm_best_of_n_wrote_can_be_chosen_too(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    with Store(tmp_path / "run" / "run.db") as store:
        generated = {i.id for i in store.instructions(origin="generated")}
        one = next(i for i in store.instances(policy="initial") if i.instruction_id in generated)
        store.add_instances([replace(one, id="another", output="Said once more.", policy="best_of_n")])
        outputs = [one.pair.output for group in module.candidates(store) for one in group]
    assert outputs.count("Said once more.") == 1


def test_too_few_candidates_are_told_in_one_line(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FEWEST", 100)
    found = CliRunner().invoke(app, ["validate-feedback", str(run)]).exception
    assert isinstance(found, UsageError)
    assert "9 instructions have two or more pairs, and 100 are needed" in str(found)


def test_what_is_no_run_is_told(tmp_path: Path) -> None:
    found = CliRunner().invoke(app, ["validate-feedback", str(tmp_path)]).exception
    assert isinstance(found, UsageError)
    assert "no run.db" in str(found)


# -- the verdict ---------------------------------------------------------------------------------------

ABOVE, BELOW, NOTHING = Gain(0.2, 0.1, 0.3, 60, 30), Gain(-0.2, -0.3, -0.1, 30, 60), Gain(0.0, -0.1, 0.1, 45, 45)


def said(margin: Gain, content: Gain, *, shuffled: Gain = BELOW, shortest: Gain = NOTHING) -> str:
    def arm(content: Gain, margin: Gain) -> dict[str, Gain]:
        return {"content": content, "margin": margin}

    return verdict(
        "mine", {BEST: arm(content, margin), SHUFFLED: arm(BELOW, shuffled), SHORTEST: arm(shortest, NOTHING)}
    )


def test_a_gain_in_margin_is_told_apart_from_one_in_content() -> None:
    assert "attends better to what is asked and knows answers better" in said(ABOVE, ABOVE)
    assert "attends better to what is asked: margin +0.200" in said(ABOVE, NOTHING)
    assert "attends better to what is asked, but knows answers worse" in said(ABOVE, BELOW)
    assert "that knows answers better: " in said(NOTHING, ABOVE)
    assert "attends less" in said(BELOW, ABOVE)
    assert "not shown" in said(NOTHING, NOTHING)


def test_what_the_shortest_gain_too_is_style() -> None:
    assert "not shown" in said(NOTHING, ABOVE, shortest=Gain(0.25, 0.2, 0.3, 70, 20))


def test_questions_that_do_not_tell_nonsense_say_nothing() -> None:
    assert "Nothing can be said of mine" in said(ABOVE, ABOVE, shuffled=NOTHING)
