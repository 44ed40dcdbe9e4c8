"""Promises of the seed tasks: what is built in, which files are read, and how each fault is told with its line."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refine_af.errors import UsageError
from refine_af.novelty import rouge_l, tokens
from refine_af.records import content_id
from refine_af.seeds import load_seeds

SELF_INSTRUCT = Path(__file__).parents[2] / "shared" / "data" / "self_instruct_seed_tasks.jsonl"
GOOD = '{"instruction": "Greet me warmly", "output": "Hello!"}'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "seeds.jsonl"


def rows(path: Path, *values: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(v, ensure_ascii=False) + "\n" for v in values), encoding="utf-8")
    return str(path)


# -- the built-in ones ---------------------------------------------------------------------------------


def test_there_are_175_built_in_tasks_and_none_is_there_twice() -> None:
    loaded = load_seeds(None)
    assert len(loaded.tasks) == 175
    assert loaded.notes == ()
    assert len({t.id for t in loaded.tasks}) == 175
    assert len({(t.input, t.output) for t in loaded.tasks}) == 175


def test_the_built_in_tasks_cover_classification_categories_and_tasks_with_and_without_input() -> None:
    tasks = load_seeds(None).tasks
    assert sum(t.is_classification for t in tasks) >= 25
    assert all(t.category for t in tasks)
    assert len({t.category for t in tasks}) >= 8
    assert sum(not t.input for t in tasks) >= 40
    assert sum(bool(t.input) for t in tasks) >= 40


def test_the_built_in_tasks_range_from_three_words_to_a_page() -> None:
    tasks = load_seeds(None).tasks
    assert min(len(t.instruction.split()) for t in tasks) == 3
    assert max(t.words() for t in tasks) >= 250


def test_no_two_built_in_instructions_repeat_each_other() -> None:
    texts = [(t.instruction, tokens(t.instruction)) for t in load_seeds(None).tasks]
    near = [(a[0], b[0]) for a, b in itertools.combinations(texts, 2) if rouge_l(a[1], b[1]) >= 0.7]
    assert near == []


def test_built_in_texts_are_whole_and_clean() -> None:
    for task in load_seeds(None).tasks:
        for text in (task.instruction, task.input, task.output):
            assert text == text.strip()
            assert "\ufffd" not in text
        assert task.instruction
        assert task.output
        assert task.input != task.output


# -- a user's files ------------------------------------------------------------------------------------


def test_self_instructs_own_seed_file_is_read() -> None:
    if not SELF_INSTRUCT.exists() and not os.environ.get("CI"):
        pytest.skip(f"{SELF_INSTRUCT} is absent: put Self-Instruct's seed_tasks.jsonl there to run this")
    tasks = load_seeds(str(SELF_INSTRUCT)).tasks
    assert len(tasks) == 175
    assert sum(t.is_classification for t in tasks) in (25, 26)
    first = tasks[0]
    assert first.instruction.startswith("Is there anything I can eat for a breakfast")
    assert first.input == ""
    assert first.output.startswith("Yes, you can have 1 oatmeal banana protein shake")


def test_a_simple_row_needs_an_instruction_and_an_output(path: Path) -> None:
    (task,) = load_seeds(rows(path, {"instruction": " Greet me ", "output": "Hello!\n"})).tasks
    assert (task.instruction, task.input, task.output) == ("Greet me", "", "Hello!")
    assert (task.is_classification, task.category) == (False, "")
    assert task.id == content_id("instruction", "Greet me")


def test_of_several_instances_the_first_is_taken(path: Path) -> None:
    pairs = [{"input": "a", "output": "b"}, {"input": "c", "output": "d"}]
    (task,) = load_seeds(rows(path, {"instruction": "Do it now", "instances": pairs})).tasks
    assert (task.input, task.output) == ("a", "b")


@pytest.mark.parametrize(
    ("value", "expected"),
    [(True, True), (False, False), ("true", True), ("Yes", True), ("1", True), (1, True), ("false", False),
     ("no", False), ("", False), (0, False), (None, False), ("1.0", True), (1.0, True), ("y", True), ("T", True),
     (" on ", True), ("0.0", False), ("n", False), ("F", False)],
)  # fmt: skip
def test_whether_a_task_is_classification_may_be_said_in_several_ways(path: Path, value: Any, expected: bool) -> None:
    row = {"instruction": "Do it now", "output": "b", "is_classification": value}
    assert load_seeds(rows(path, row)).tasks[0].is_classification is expected


def test_csv_with_quoted_lines_and_commas_is_read(tmp_path: Path) -> None:
    path = tmp_path / "seeds.CSV"
    path.write_bytes(
        b"instruction,input,output,is_classification,category\r\n"
        b'"Sort, please","b\r\na","a\nb",,lists\r\n'
        b"Is it spam?,win $$$,yes,true,\r\n"
    )
    first, second = load_seeds(str(path)).tasks
    assert (first.instruction, first.input, first.output) == ("Sort, please", "b\na", "a\nb")
    assert (first.is_classification, first.category) == (False, "lists")
    assert (second.output, second.is_classification) == ("yes", True)


@pytest.mark.parametrize("name", ["seeds.jsonl", "seeds.csv"])
def test_a_byte_order_mark_is_no_part_of_the_first_row(tmp_path: Path, name: str) -> None:
    text = GOOD if name.endswith("jsonl") else "instruction,output\nGreet me warmly,Hello!\n"
    (tmp_path / name).write_text(text, encoding="utf-8-sig")
    assert load_seeds(str(tmp_path / name)).tasks[0].instruction == "Greet me warmly"


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\u0085", "\u000b", "\u000c"])
def test_line_separators_inside_a_json_string_break_no_row(path: Path, separator: str) -> None:
    text = f"one{separator}two"
    value = json.dumps(text, ensure_ascii=separator < " ")
    path.write_text(f'{{"instruction": "Say it twice", "output": {value}}}\n{GOOD}\n', encoding="utf-8")
    assert [t.output for t in load_seeds(str(path)).tasks] == [text, "Hello!"]


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\n\n \n"])
def test_line_endings_and_blank_lines_are_no_matter(path: Path, ending: str) -> None:
    other = GOOD.replace("Greet", "Scold")
    path.write_bytes(f"{GOOD}{ending}{other}".encode())
    assert len(load_seeds(str(path)).tasks) == 2


def test_repeated_instructions_are_merged_to_the_first_with_a_note(path: Path) -> None:
    written = rows(
        path,
        {"instruction": "Greet me", "output": "first"},
        {"instruction": "Name a cat", "output": "Tom"},
        {"instruction": "greet  ME", "output": "second"},
        {"instruction": "Greet me", "output": "third"},
    )
    loaded = load_seeds(written)
    assert [t.output for t in loaded.tasks] == ["first", "Tom"]
    assert loaded.notes == (f"2 repeated instructions in {written} merged",)


def test_one_repetition_is_told_in_the_singular(path: Path) -> None:
    path.write_text(f"{GOOD}\n{GOOD}\n")
    assert load_seeds(str(path)).notes == (f"1 repeated instruction in {path} merged",)


# -- faults --------------------------------------------------------------------------------------------

FAULTS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "holds no task"),
    "blank": (b"\n  \n", "holds no task"),
    "not UTF-8": (f"{GOOD}\n{GOOD}\n".encode() + b'{"instruction": "caf\xe9"}', "line 3: not UTF-8"),
    "UTF-16": (GOOD.encode("utf-16"), "line 1: not UTF-8"),
    "not UTF-8, after a byte order mark": (b"\xef\xbb\xbf" + GOOD.encode() + b"\n\xff\n", "line 2: not UTF-8"),
    "broken JSON": (f"{GOOD}\n\n{{'instruction'}}\n".encode(), "line 3: broken JSON"),
    "half a row": (f"{GOOD}\n{GOOD[:-5]}".encode(), "line 2: broken JSON"),
    "a JSON array that doesn't end": (f"[\n{GOOD},\n".encode(), "item 2: broken JSON"),
    "a JSON array without a comma": (f"[\n{GOOD}\n{GOOD}]".encode(), "item 1: broken JSON"),
    "a JSON array and more": (f"[{GOOD}]\n{GOOD}".encode(), "broken JSON (text after the list)"),
    "an object and more": (f"{GOOD} {GOOD}".encode(), "line 1: broken JSON (text after the object)"),
    "a key twice": (b'{"instruction": "a", "instruction": "b", "output": "x"}', "the key 'instruction' stands twice"),
    "nested without end": (f"{GOOD}\n".encode() + b"[" * 100_000, "line 2: broken JSON"),
    "a number without end": (f'{GOOD}\n{{"instruction": {"1" * 5000}}}'.encode(), "line 2: "),
    "half a character": (b'{"instruction": "Say \\ud83d twice", "output": "x"}', "line 1: "),
    "not an object": (f"{GOOD}\n[1]".encode(), "line 2: not an object"),
    "a string": (b'"Greet me"', "line 1: not a JSON object"),
    "no instruction": (b'{"output": "x"}', "line 1: no instruction; it has output"),
    "instruction blank": (b'{"instruction": " ", "output": "x"}', "line 1: the instruction is empty"),
    "instruction a number": (b'{"instruction": 3, "output": "x"}', "line 1: instruction must be text, not int"),
    "no output": (
        f'{GOOD}\n{{"instruction": "Name it"}}'.encode(),
        "line 2: no output or instances; it has instruction",
    ),
    "output null": (b'{"instruction": "Name it", "output": null}', "line 1: the output is empty"),
    "output a list": (b'{"instruction": "Name it", "output": ["x"]}', "line 1: output must be text, not list"),
    "input a number": (b'{"instruction": "N", "input": 1, "output": "x"}', "line 1: input must be text, not int"),
    "no instance": (b'{"instruction": "N", "instances": []}', "line 1: instances must be a list"),
    "instances an object": (b'{"instruction": "N", "instances": {"output": "x"}}', "instances must be a list"),
    "instances of text": (b'{"instruction": "N", "instances": ["x"]}', "instances must be a list"),
    "instance without output": (b'{"instruction": "N", "instances": [{"input": "x"}]}', "no output; it has input"),
    "neither yes nor no": (b'{"instruction": "N", "output": "x", "is_classification": "maybe"}', "must be yes or no"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_told_with_file_and_line(path: Path, name: str) -> None:
    content, message = FAULTS[name]
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        load_seeds(str(path))
    assert str(path) in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "line 1: no column named instruction"),
        (b"task,output\nx,y\n", "line 1: no column named instruction"),
        (b"instruction,output\nName it\n", "line 2: the output is empty"),
        (b"instruction,output\nName it,x\n,y\n", "line 3: the instruction is empty"),
        (b"instruction,output\n", "holds no task"),
        (b"instruction,output\nName it," + b"x" * 140_000 + b"\n", "line 2: broken CSV"),
        (b"a" * 140_000 + b",instruction,output\n", "line 1: broken CSV"),
    ],
)
def test_a_fault_in_csv_is_told_with_its_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "seeds.csv"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        load_seeds(str(path))


def test_a_missing_file_and_a_folder_are_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not there"):
        load_seeds(str(tmp_path / "none.jsonl"))
    with pytest.raises(UsageError, match="is a folder"):
        load_seeds(str(tmp_path))
    with pytest.raises(UsageError, match="can't be read"):
        load_seeds(str(tmp_path / ("x" * 300)))


@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused_in_one_line(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    for name in ("seeds.jsonl", "seeds.csv"):
        path = tmp_path_factory.getbasetemp() / name
        path.write_bytes(content)
        try:
            message = ""
            assert load_seeds(str(path)).tasks
        except UsageError as error:
            message = str(error)
        assert "\n" not in message
