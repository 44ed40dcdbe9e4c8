"""Promises of the command line: help for every command, quick to start, and a mistake is one line and nothing more."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from refine_af import __version__
from refine_af.cli import app, main
from refine_af.config import PRESETS, load_config
from refine_af.store import Store


def commands(group: Any = None, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The words of every command and group, the program's own (none) first."""
    group = group or typer.main.get_command(app)
    found = [path]
    for name, command in getattr(group, "commands", {}).items():
        found += commands(command, (*path, name))
    return found


class Result:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Calls the program in an empty current folder, as its entry point does."""
    monkeypatch.chdir(tmp_path)
    for name in ("TQDM_DISABLE", "TOKENIZERS_PARALLELISM", "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_OFFLINE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path.parent / "no hub"))

    def called(*arguments: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["refine-af", *arguments])
        capfd.readouterr()
        try:
            main()
            code: Any = 0
        except SystemExit as exit:
            code = exit.code or 0
        return Result(code, *capfd.readouterr())

    return called


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else b"" for p in folder.rglob("*")}


# -- help ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_has_help(call: Callable[..., Result], words: tuple[str, ...]) -> None:
    result = call(*words, "--help")
    assert result.code == 0
    assert "Usage:" in result.out
    assert result.err == ""


@pytest.mark.parametrize("words", [w for w in commands() if w and w != ("config",) and w != ("version",)], ids=" ".join)
def test_every_commands_help_shows_an_example(call: Callable[..., Result], words: tuple[str, ...]) -> None:
    assert f"refine-af {' '.join(words)} " in call(*words, "--help").out.split("Usage:")[1].split("\n", 1)[1]


@pytest.mark.parametrize("module", ["refine_af", "refine_af.cli"])
def test_starting_imports_nothing_heavy(module: str) -> None:
    heavy = ["torch", "transformers", "pydantic", "numpy", "pyarrow", "rapidfuzz", "nltk", "yaml", "peft", "trl"]
    code = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert made.stdout.strip() == "[]"


def test_the_version_is_printed(call: Callable[..., Result]) -> None:
    assert call("version").out.strip() == __version__


# -- mistakes ------------------------------------------------------------------------------------------

MISTAKES: dict[str, tuple[list[str], str]] = {
    "unknown option": (["run", "--frobnicate"], "--frobnicate"),
    "unknown command": (["frobnicate"], "frobnicate"),
    "an option without its value": (["run", "--out"], "--out"),
    "an argument too many": (["status", "runs/a", "runs/b"], "runs/b"),
    "an argument missing": (["status"], "folder"),
    "unknown key": (["run", "--set", "policy.iteration=1"], "did you mean 'iterations'"),
    "out of range": (["run", "--set", "seed=-1"], "seed"),
    "no key=value": (["run", "--set", "seed"], "key=value"),
    "seeds missing": (["run", "--seeds", "none.jsonl"], "none.jsonl is not there"),
    "seeds broken": (["run", "--seeds", "broken.jsonl"], "line 1: broken JSON"),
    "seeds a folder": (["run", "--seeds", "folder"], "is a folder"),
    "no seed left to show": (["run", "--set", "seeds.held_out=1", "--until", "seeds"], "held_out"),
    "model folder missing": (["run", "--set", "model.name=./none"], "no model folder ./none"),
    "model folder empty": (["run", "--set", "model.name=./folder"], "no config.json"),
    "model never downloaded": (["run", "--set", "model.name=some/model"], "hf download some/model"),
    "out is a file": (["run", "--out", "a file"], "a file is a file"),
    "out is under a file": (["run", "--out", "a file/run"], "a file is a file"),
    "out is no database": (["run", "--out", "not a run"], "run.db"),
    "unknown stage": (["run", "--until", "lunch"], "no stage 'lunch'; there are: seeds, instructions"),
    "unknown feedback": (["run", "--set", "feedback.name=nonsense", "--until", "seeds"], "nonsense"),
    "unknown weight": (["run", "--set", "feedback.weights.nonsense=1", "--until", "seeds"], "nonsense"),
    "a weight that is no number": (["run", "--set", "feedback.weights.pmi=nan", "--until", "seeds"], "finite"),
    "unknown preset": (["run", "--preset", "embeded"], "did you mean 'embedded'"),
    "config missing": (["run", "--config", "none.yaml"], "none.yaml is not there"),
    "config and preset": (["run", "--config", "c.yaml", "--preset", "embedded"], "exclude each other"),
    "another run's folder": (["run", "--out", "other"], "seed: 7 -> 0"),
    "plan with missing seeds": (["plan", "--seeds", "none.jsonl"], "none.jsonl is not there"),
    "status of nothing": (["status", "none"], "has no run.db"),
    "status of no database": (["status", "not a run"], "run.db"),
    "report of nothing": (["report", "none"], "has no run.db"),
    "init over a file": (["config", "init", "a file"], "is there already"),
    "init into no folder": (["config", "init", "none/c.yaml"], "none"),
    "show of an unknown key": (["config", "show", "--set", "zzz=1"], "unknown option 'zzz'"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_on_stderr_exit_2_and_nothing_written(
    call: Callable[..., Result], tmp_path: Path, name: str
) -> None:
    (tmp_path / "a file").write_text("kept")
    (tmp_path / "folder").mkdir()
    (tmp_path / "broken.jsonl").write_text("{")
    (tmp_path / "not a run").mkdir()
    (tmp_path / "not a run" / "run.db").write_bytes(b"this is no database" * 100)
    (tmp_path / "c.yaml").write_text("seed: 1")
    (tmp_path / "other").mkdir()
    with Store(tmp_path / "other" / "run.db") as store:
        store.save_run(load_config(overrides=["seed=7"]).model_dump(mode="json"), {})
    before = tree(tmp_path)
    arguments, message = MISTAKES[name]
    result = call(*arguments)
    assert tree(tmp_path) == before
    assert message in result.err
    assert (result.code, result.out) == (2, "")
    assert len(result.err.splitlines()) == 1
    assert result.err.startswith("refine-af: ")


def test_an_interrupted_run_says_how_to_go_on_in_one_line_with_exit_130(
    call: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("refine_af.run.Run.execute", interrupted)
    result = call("run", "--quiet")
    assert (result.code, result.out) == (130, "")
    assert result.err == "refine-af: stopped; the same command goes on from here\n"


# -- configuration -------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", PRESETS)
def test_config_show_prints_what_would_be_used(call: Callable[..., Result], preset: str) -> None:
    expected = load_config(preset=preset, overrides=["seed=3"]).model_dump(mode="json")
    assert yaml.safe_load(call("config", "show", "--preset", preset, "--set", "seed=3").out) == expected
    assert json.loads(call("config", "show", "--preset", preset, "--set", "seed=3", "--json").out) == expected


def test_config_init_writes_a_file_that_config_show_reads_back(call: Callable[..., Result], tmp_path: Path) -> None:
    assert call("config", "init", "mine.yaml", "--preset", "paper-mistral-7b").out.strip() == "mine.yaml"
    shown = call("config", "show", "--config", "mine.yaml").out
    assert shown == (tmp_path / "mine.yaml").read_text()
    assert load_config(tmp_path / "mine.yaml") == load_config(preset="paper-mistral-7b")


def test_config_schema_names_every_section(call: Callable[..., Result]) -> None:
    schema = json.loads(call("config", "schema").out)
    assert set(schema["properties"]) == set(load_config().model_dump())


# -- a run's first stage -------------------------------------------------------------------------------


SEEDS = "".join(json.dumps({"instruction": f"Name animal number {i}", "output": "cat"}) + "\n" for i in range(5))


def begun(call: Callable[..., Result], tmp_path: Path, *more: str) -> Result:
    """The first stage alone, which loads no model: any folder with a config.json will do."""
    (tmp_path / "model").mkdir(exist_ok=True)
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "mine.jsonl").write_text(SEEDS)
    arguments = ["--seeds", "mine.jsonl", "--set", "model.name=./model", "--until", "seeds", "--out", "run"]
    return call("run", *arguments, *more)


def test_a_run_begins_goes_on_and_says_its_status(call: Callable[..., Result], tmp_path: Path) -> None:
    assert begun(call, tmp_path, "--quiet").code == 0
    result = begun(call, tmp_path, "--quiet")
    assert (result.code, result.out, result.err) == (0, "", "")
    found = json.loads(call("status", "run", "--json").out)
    assert found["stages"]["seeds"]["status"] == "done"
    assert found["stages"]["seeds"]["counts"] == {"read": 5, "kept": 5, "rejected": 0, "failed": 0}
    assert found["stages"]["policy"]["status"] == "not begun"
    assert "not begun" in call("status", "run").out


@pytest.mark.parametrize("name", ["2024", "nan", "😀.jsonl", "a: b #c.csv.jsonl", "it's.jsonl"])
def test_seeds_may_have_any_file_name(call: Callable[..., Result], tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(SEEDS)
    assert begun(call, tmp_path, "--quiet", "--seeds", name).code == 0


def test_fresh_starts_over_beside_the_old_run(call: Callable[..., Result], tmp_path: Path) -> None:
    begun(call, tmp_path, "--quiet")
    before = tree(tmp_path / "run")
    for number in (2, 3):
        assert begun(call, tmp_path, "--quiet", "--fresh", "--set", "seed=9").code == 0
        assert (tmp_path / f"run-{number}" / "run.db").exists()
    assert tree(tmp_path / "run") == before
