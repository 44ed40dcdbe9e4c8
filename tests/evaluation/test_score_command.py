"""Promises of `refine-af score`: the official figures, missing predictions scored 0 and told, faults in one line."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from refine_af.cli import main
from refine_af.evaluation.scores import score_answers, summary
from refine_af.evaluation.tasks import load_tasks

SUPER_NI = Path(__file__).parents[3] / "shared" / "data" / "superni_test.jsonl.gz"
TASKS = [
    {
        "task": task,
        "category": category,
        "definition": f"Do {task}",
        "instance_id": id,
        "input": "",
        "references": [text],
    }
    for task, category, id, text in (
        ("a", "Word Analogy", "a1", "x y"),
        ("a", "Word Analogy", "a2", "x"),
        ("b", "Data to Text", "b1", "z"),
    )
]
Called = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Called:
    monkeypatch.chdir(tmp_path)
    jsonl("tasks.jsonl", TASKS)

    def called(*words: str, file: str = "p.jsonl") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["refine-af", "score", file, "--tasks", "tasks.jsonl", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return called


def jsonl(path: str, rows: list[Any]) -> None:
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_json_is_the_means_by_task_and_by_category(call: Called) -> None:
    jsonl(
        "p.jsonl", [{"id": "b1", "prediction": "Z!"}, {"id": "a1", "prediction": "x"}, {"id": "a2", "prediction": "w"}]
    )
    code, out, err = call("--json")
    assert (code, err) == (0, "")
    assert list(json.loads(out))[:2] == ["rouge_l", "exact_match"], "what is asked for comes first"
    assert json.loads(out) == {
        "settings": {"tokenization": "rouge-score"},
        "rouge_l": pytest.approx((200 / 3 + 100) / 3),
        "exact_match": pytest.approx(100 / 3),
        "instances": 3,
        "missing": 0,
        "tasks": {
            "a": {
                "category": "Word Analogy",
                "rouge_l": pytest.approx(100 / 3),
                "exact_match": 0.0,
                "instances": 2,
                "missing": 0,
            },
            "b": {"category": "Data to Text", "rouge_l": 100.0, "exact_match": 100.0, "instances": 1, "missing": 0},
        },
        "categories": {
            "Word Analogy": {
                "rouge_l": pytest.approx(100 / 3),
                "exact_match": 0.0,
                "metric": "exact_match",
                "instances": 2,
            },
            "Data to Text": {"rouge_l": 100.0, "exact_match": 100.0, "metric": "rouge_l", "instances": 1},
        },
    }


def test_missing_and_unknown_predictions_are_told(call: Called) -> None:
    jsonl("p.jsonl", [{"id": "a1", "prediction": "x y"}, {"id": "q", "prediction": "x"}])
    code, out, err = call("--json")
    assert code == 0
    assert json.loads(out)["missing"] == 2
    assert json.loads(out)["rouge_l"] == pytest.approx(100 / 3)
    assert "2 of 3 instances have no prediction and are scored 0" in err
    assert "1 predictions have an id that no task has" in err
    assert "2 missing and scored 0" in " ".join(call()[1].split())


def test_the_first_instances_of_each_task_can_be_scored_alone(call: Called) -> None:
    jsonl("p.jsonl", [{"id": "a1", "prediction": "x y"}, {"id": "b1", "prediction": "z"}])
    found = json.loads(call("--instances", "1", "--json")[1])
    assert (found["rouge_l"], found["instances"], found["missing"]) == (100.0, 2, 0)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.csv", "ID,output,missing\na1,x y,no\nb1,,yes\n"),
        ("p.json", json.dumps([{"id": "a1", "response": "x y"}], indent=1)),
    ],
)
def test_predictions_of_other_forms_and_names_are_read_with_a_note(call: Called, name: str, content: str) -> None:
    Path(name).write_text(content)
    code, out, err = call("--json", file=name)
    assert code == 0
    assert (json.loads(out)["missing"], json.loads(out)["tasks"]["a"]["rouge_l"]) == (2, 50.0)
    assert " is read as prediction" in err


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            [{"id": "a1", "prediction": "x"}, {"id": "a1", "prediction": "y"}],
            "line 2: the id 'a1' stands in line 1 too",
        ),
        ([{"prediction": "x"}], "line 1: no id"),
        ([{"id": "a1"}], "line 1: no prediction"),
        ([{"id": "a1", "prediction": 7}], "line 1: no prediction"),
        ([{"id": "q", "prediction": "x"}], "no id matches tasks.jsonl: ids are like 'q' here and 'a1' there"),
        ([], "holds no prediction; give rows of id, prediction"),
        ([{"id": "a1", "prediction": "", "missing": True}], "holds no prediction; give rows of id, prediction"),
        ([{"id": "", "prediction": "x"}], "line 1: no id"),
        ([{"id": "a1", "prediction": "x", "missing": "perhaps"}], "line 1: missing must be yes or no"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(call: Called, rows: list[Any], said: str) -> None:
    jsonl("p.jsonl", rows)
    code, out, err = call()
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.splitlines()) == 1


def test_copying_scores_on_super_naturalinstructions_what_its_own_scorer_says() -> None:
    if not SUPER_NI.exists() and not os.environ.get("CI"):
        pytest.skip(f"{SUPER_NI} is absent: it holds the tasks to score")
    tasks = load_tasks(SUPER_NI).tasks
    inputs = {one.id: one.input for task in tasks for one in task.instances}
    first = {one.id: task.examples[0][1] for task in tasks for one in task.instances}
    assert (len(tasks), len(inputs)) == (103, 10_210)
    assert summary(score_answers(tasks, inputs))["rouge_l"] == pytest.approx(15.1236, abs=5e-5)
    assert summary(score_answers(tasks, first))["rouge_l"] == pytest.approx(29.1362, abs=5e-5)


CHINESE = (
    [{"id": "1", "prediction": "法国的首都是巴黎。"}, {"id": "2", "prediction": "他3点钟去了医院"}],
    [
        {"id": "1", "task": "a", "instruction": "法国的首都是什么？", "output": "法国的首都是巴黎。"},
        {"id": "2", "task": "b", "instruction": "多少？", "output": "一共有3个苹果"},
    ],
)


def test_a_right_answer_scores_more_than_a_wrong_one_in_the_language_that_is_named(call: Called) -> None:
    jsonl("p.jsonl", CHINESE[0])
    jsonl("tasks.jsonl", CHINESE[1])
    code, out, err = call("--json", "--language", "zh")
    assert (code, err) == (0, "")
    scored = json.loads(out)
    assert scored["settings"] == {"tokenization": "unicode"}
    assert scored["tasks"]["a"]["rouge_l"] == 100.0
    assert scored["tasks"]["b"]["rouge_l"] < 20.0


def test_texts_that_english_does_not_see_are_told(call: Called) -> None:
    jsonl("p.jsonl", CHINESE[0])
    jsonl("tasks.jsonl", CHINESE[1])
    code, out, err = call()
    assert code == 0
    assert "tokenization rouge-score" in out
    assert len(err.splitlines()) == 1
    assert "set --language to the texts' own" in err


def test_what_is_no_language_is_one_line(call: Called) -> None:
    code, _, err = call("--language", "Chinese")
    assert code == 2
    assert len(err.splitlines()) == 1
    assert "--language" in err
