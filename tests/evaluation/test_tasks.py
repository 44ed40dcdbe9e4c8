"""Promises of the readers of evaluation tasks: the three forms are read, and a fault is one line with its place."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from refine_af.errors import UsageError
from refine_af.evaluation.tasks import load_tasks, tasks_id

ROW = {
    "task": "t1",
    "category": "Word Analogy",
    "definition": "Say it",
    "positive_examples": [{"input": "a", "output": "b", "explanation": "c"}] * 3,
    "instance_id": "t1-a",
    "input": "x",
    "references": ["y", "z"],
}


def jsonl(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def official(folder: Path, names: list[str], instances: int = 3) -> Path:
    (folder / "tasks").mkdir(parents=True)
    for name in names:
        fields = {
            "Definition": ["Do it"],
            "Categories": ["Title Generation"],
            "Positive Examples": [{"input": "a", "output": "b"}],
            "Instances": [{"id": f"{name}-{i}", "input": str(i), "output": ["o"]} for i in range(instances)],
        }
        (folder / "tasks" / f"{name}.json").write_text(json.dumps(fields))
    return folder


@pytest.mark.parametrize("packed", [False, True])
def test_rows_of_a_task_are_joined_in_their_order(tmp_path: Path, packed: bool) -> None:
    rows = [ROW, {**ROW, "task": "t2", "instance_id": "t2-a"}, {**ROW, "instance_id": "t1-b"}]
    path = jsonl(tmp_path / "tasks.jsonl", rows)
    if packed:
        packed_path = tmp_path / "tasks.jsonl.gz"
        packed_path.write_bytes(gzip.compress(path.read_bytes()))
        path = packed_path
    first, second = load_tasks(path).tasks
    assert (first.name, first.category, first.definition) == ("t1", "Word Analogy", "Say it")
    assert first.examples == (("a", "b"), ("a", "b"))
    assert [one.id for one in first.instances] == ["t1-a", "t1-b"]
    assert first.instances[0].references == ("y", "z")
    assert second.name == "t2"


def test_the_official_folder_gives_the_tasks_of_its_split_with_100_instances(tmp_path: Path) -> None:
    folder = official(tmp_path / "ni", ["task2_b", "task1_a", "task3_c"], instances=130)
    (folder / "splits" / "default").mkdir(parents=True)
    (folder / "splits" / "default" / "test_tasks.txt").write_text("task2_b\ntask1_a\ntask9_gone\n")
    for place in (folder, folder / "tasks"):
        loaded = load_tasks(place)
        assert [task.name for task in loaded.tasks] == ["task2_b", "task1_a"]
        assert {len(task.instances) for task in loaded.tasks} == {100}
        assert loaded.notes[0].startswith("1 of the 3 tasks of ")


def test_a_folder_without_a_split_gives_all_its_tasks(tmp_path: Path) -> None:
    folder = official(tmp_path / "ni", ["task2_b", "task1_a"])
    assert [task.name for task in load_tasks(folder, instances=2).tasks] == ["task1_a", "task2_b"]
    assert [one.id for one in load_tasks(folder, instances=2).tasks[0].instances] == ["task1_a-0", "task1_a-1"]


def test_own_rows_need_an_instruction_and_an_output_alone(tmp_path: Path) -> None:
    rows = [
        {"instruction": "Name a colour", "output": "red"},
        {"instruction": "Name an animal", "input": "small", "references": ["cat", "dog"], "id": 7},
        {"instruction": "Name a colour", "input": "dark", "output": "black"},
    ]
    colours, animals = load_tasks(jsonl(tmp_path / "own.jsonl", rows)).tasks
    assert (colours.name, colours.category) == ("Name a colour", "")
    assert [(one.id, one.input) for one in colours.instances] == [("1", ""), ("3", "dark")]
    assert (animals.instances[0].id, animals.instances[0].references) == ("7", ("cat", "dog"))


def test_long_instructions_that_begin_alike_are_two_tasks(tmp_path: Path) -> None:
    rows = [{"instruction": "word " * 40 + end, "output": "x"} for end in ("a", "b")]
    one, other = load_tasks(jsonl(tmp_path / "own.jsonl", rows)).tasks
    assert other.name == f"{one.name} (2)"
    assert len(one.name) <= 60


def test_nothing_may_be_the_right_answer_where_json_says_so(tmp_path: Path) -> None:
    """As in some instances of Super-NI, such as of extracting what a list doesn't have."""
    row = {"task": "t", "definition": "Extract", "input": "a", "references": [""]}
    (tmp_path / "own.jsonl").write_text(json.dumps(row) + "\n")
    assert load_tasks(tmp_path / "own.jsonl").tasks[0].instances[0].references == ("",)


def test_csv_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("instruction,input,output\nSay,a,b\n")
    assert load_tasks(tmp_path / "own.csv").tasks[0].instances[0].references == ("b",)


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ('["Oslo", "Bergen city hall"]', ("Oslo", "Bergen city hall")),
        ("[MASK]", ("[MASK]",)),
        ("[1, 2]", ("[1, 2]",)),
        ("", ("Rome",)),
        (" ", ("Rome",)),
    ],
)
def test_a_cell_of_references_holds_a_list_in_json_or_one_text(
    tmp_path: Path, cell: str, expected: tuple[str, ...]
) -> None:
    quoted = cell.replace('"', '""')
    (tmp_path / "own.csv").write_text(f'instruction,references,output\nName a city.,"{quoted}",Rome\n')
    assert load_tasks(tmp_path / "own.csv").tasks[0].instances[0].references == expected


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            "instruction,references\nName a city.,\"['Oslo', 'Bergen']\"\n",
            "line 2: references reads as a list and is none",
        ),
        ('instruction,references\nName a city.,"[""Oslo"""\n', "line 2: references reads as a list and is none"),
        ("instruction,references,output\nName a city.,,\n", "line 2: references and output are empty"),
        ('instruction,references\nName a city.,"["" ""]"\n', "line 2: references is empty"),
        ("instruction,output\nName a city., \n", "line 2: output is empty"),
        ("instruction,references\nName a city.,[]\n", "line 2: references must be a text or a list of texts, one at"),
        ("instruction,colour\nName a city.,red\n", "line 1: no column named references or output"),
    ],
)
def test_a_cell_without_references_is_told_with_its_line(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "own.csv").write_text(content)
    with pytest.raises(UsageError) as caught:
        load_tasks(tmp_path / "own.csv")
    assert said in str(caught.value)


def test_other_names_and_lists_are_read_and_one_task_file_stands_for_itself(tmp_path: Path) -> None:
    rows = [{"question": "Capital?", "Context": "Norway", "answers": ["Oslo", "oslo"], "note": "x"}]
    (tmp_path / "own.json").write_text(json.dumps(rows))
    loaded = load_tasks(tmp_path / "own.json")
    assert loaded.tasks[0].definition == "Capital?"
    assert loaded.tasks[0].instances[0].input == "Norway"
    assert loaded.tasks[0].instances[0].references == ("Oslo", "oslo")
    assert [note.removeprefix(f"{tmp_path}/own.json: ") for note in loaded.notes] == [
        "'question' is read as instruction",
        "'Context' is read as input",
        "'answers' is read as references",
        "not read: 'note'",
    ]
    folder = official(tmp_path / "ni", ["task1_a"])
    (task,) = load_tasks(folder / "tasks" / "task1_a.json").tasks
    assert (task.name, len(task.instances)) == ("task1_a", 3)


def test_the_id_of_tasks_changes_with_what_decides_a_score(tmp_path: Path) -> None:
    changes: list[dict[str, Any]] = [{}, {"input": "w"}, {"references": ["y"]}, {"definition": "Say"}, {"task": "t"}]
    ids = [tasks_id(load_tasks(jsonl(tmp_path / "t.jsonl", [{**ROW, **change}])).tasks) for change in changes]
    assert len(set(ids)) == len(changes)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "holds no instance"),
        ([{"input": "x", "output": "y"}], "line 1: no definition or instruction"),
        ([ROW, {**ROW, "definition": "Other"}], "line 2: task 't1' was defined otherwise before"),
        ([ROW, ROW], "line 2: the id 't1-a' is used before"),
        ([{"instruction": "a"}], "line 1: no references or output"),
        ([{"instruction": "a", "references": []}], "line 1: references must be a text or a list"),
        ([{"instruction": "a", "references": [1]}], "line 1: references must be text, not int"),
        ([{"instruction": "a", "output": "\ud800"}], "output holds half of a character"),
        ([{**ROW, "positive_examples": ["a"]}], "line 1: positive_examples must be a list of objects"),
    ],
)
def test_a_faulty_row_is_told_with_its_line(tmp_path: Path, rows: list[Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_tasks(jsonl(tmp_path / "t.jsonl", rows))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [("{", "broken JSON"), ("[]", "is no task file"), ('{"Instances": [7], "Definition": "a"}', "instance 1: not an")],
)
def test_a_faulty_task_file_is_told(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "task1.json").write_text(content)
    with pytest.raises(UsageError, match=said):
        load_tasks(tmp_path)


def test_a_place_without_tasks_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"holds no task file \(\*\.json\)"):
        load_tasks(tmp_path)
    with pytest.raises(UsageError, match="is not there"):
        load_tasks(tmp_path / "none.jsonl")
    (tmp_path / "broken.jsonl.gz").write_bytes(gzip.compress(b"{}")[:-4])
    with pytest.raises(UsageError, match="is no whole gzip file"):
        load_tasks(tmp_path / "broken.jsonl.gz")
