"""Promises of runs whose seeds aren't English: they are read as their language is, and what doesn't fit is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from refine_af.config import Config, load_config
from refine_af.filters import HOLLOW, TOPIC
from refine_af.language import Language
from refine_af.prompts.instructions import opening_of
from refine_af.run import Run, open_run

TASKS = [f"写一首关于{thing}的短诗，要押韵。" for thing in "雨雪山海花鸟风月春夏秋冬"]


@pytest.fixture
def chinese(tmp_path: Path, tiny_settings: list[str]) -> list[str]:
    """The settings of a run on Chinese seeds."""
    rows = [{"instruction": text, "input": "", "output": f"{text[5]}来了，我很高兴。"} for text in TASKS]
    seeds = tmp_path / "seeds.jsonl"
    seeds.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return [*tiny_settings, f"seeds.path={seeds}", "instructions.method=list", "instructions.max_rounds=1"]


def warnings(config: Config, folder: Path) -> list[str]:
    Run(config, folder).execute("seeds")
    with open_run(folder) as store:
        return [row["text"] for row in store.query("SELECT text FROM events WHERE kind = 'warning'")]


def test_seeds_that_english_does_not_see_are_told(chinese: list[str], tmp_path: Path) -> None:
    [told] = warnings(load_config(overrides=chinese), tmp_path / "run")
    assert "the seeds" in told
    assert "language" in told


def test_what_is_made_for_english_is_told_where_another_language_is_named(
    chinese: list[str], tiny_settings: list[str], tmp_path: Path
) -> None:
    plain = [*chinese, "language=zh", "feedback.name=variety", "policy.guards.witness=pmi"]
    assert warnings(load_config(overrides=plain), tmp_path / "plain") == []
    built_in = [*tiny_settings, "language=zh", "feedback.name=variety"]
    [told] = warnings(load_config(overrides=built_in), tmp_path / "built_in")
    assert "built-in seeds are English" in told


def test_a_run_in_another_language_asks_no_rules_of_english_words(tiny_settings: list[str], tmp_path: Path) -> None:
    short = ("feedback.name=variety", "instructions.target=4", "policy.algorithm=none", "seeds.held_out=0.03")
    config = load_config(overrides=[*tiny_settings, "language=mul", *short])
    Run(config, tmp_path / "run").execute("evaluate")
    with open_run(tmp_path / "run") as store:
        assert store.instances(selected=True)
        reasons = set(store.rejection_reasons("instructions")) | set(store.rejection_reasons("instances"))
    assert not reasons & {"asks for nothing", "needs more than text", "in another script", HOLLOW, TOPIC}
    scores = json.loads((tmp_path / "run" / "evaluation" / "scores.json").read_text(encoding="utf-8"))
    assert scores["settings"]["tokenization"] == "unicode"


@pytest.mark.parametrize(
    ("instruction", "words", "code", "opening"),
    [
        ("写一首关于雨的短诗，要押韵。", 4, "zh", "写一首关于雨"),
        ("用Python写一个函数", 2, "zh", "用Python"),
        ("Write a poem on rain.", 2, "en", "Write a"),
        ("Напиши стих о дожде.", 2, "ru", "Напиши стих"),
        ("诗", 2, "zh", "诗"),
    ],
)
def test_an_opening_is_a_part_of_an_instruction_in_any_script(
    instruction: str, words: int, code: str, opening: str
) -> None:
    assert opening_of(instruction, words, Language(code)) == opening
