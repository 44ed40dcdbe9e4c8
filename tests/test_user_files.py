"""Promises of the reader of users' files: forms and names that can be told apart are read, and what can't is refused
in one line with the file, the place and what to do."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from refine_af.errors import UsageError
from refine_af.feedback.ranking.rows import read_pairs
from refine_af.novelty.screen import read_rows
from refine_af.seeds import load_seeds
from refine_af.user_files import Wanted, read_file

TEXTS = Wanted((("instruction", "text"),))
PAIRS = Wanted((("instruction",), ("output",)), ("input", "category"), whole=True)
PAIR = {"instruction": "Translate, please.", "input": "house", "output": "Haus"}
OTHER = {"instruction": "Say it.", "input": "", "output": "It."}


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def named(path: Path, wanted: Wanted = PAIRS) -> list[dict[str, Any]]:
    return [row.named for row in read_file(path, "file a", wanted).rows]


# -- forms ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "ROWS.CSV", ".csv", "rows", "rows.csv.gz", "rows.jsonl.gz"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_rows_come_with_their_lines(tmp_path: Path, name: str, mark: str, ending: str) -> None:
    as_csv = ["text,n", "one,1", "", "two,2"]
    as_json = ['{"text": "one", "n": "1"}', " ", '{"text": "two", "n": "2"}']
    lines = as_csv if ".csv" in name.lower() else as_json
    content = (mark + ending.join(lines)).encode("utf-8")
    path = written(tmp_path / name, gzip.compress(content) if name.endswith(".gz") else content)
    rows = read_file(path, name, TEXTS).rows
    assert [(row.number, row.fields) for row in rows] == [
        (len(lines) - 2, {"text": "one", "n": "1"}),
        (len(lines), {"text": "two", "n": "2"}),
    ]


@pytest.mark.parametrize(
    "content",
    [
        json.dumps([PAIR, OTHER]),
        json.dumps([PAIR, OTHER], indent=1),
        f"\n [{json.dumps(PAIR)}\n,{json.dumps(OTHER)} ] \n",
        f"{json.dumps(PAIR, indent=2)}\n{json.dumps(OTHER, indent=2)}\n",
    ],
)
def test_lists_of_objects_and_objects_over_several_lines_are_read(tmp_path: Path, content: str) -> None:
    read = read_file(written(tmp_path / "rows.json", content), "file a", PAIRS)
    assert [row.fields for row in read.rows] == [PAIR, OTHER]
    assert [row.where for row in read.rows] == ["file a, item 1", "file a, item 2"]
    assert read.notes == ()


@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv"])
@pytest.mark.parametrize("said", ["", "sep={}\n", '"sep={}"\r\n'])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_separator_of_a_table_is_seen(tmp_path: Path, name: str, said: str, separator: str) -> None:
    lines = ["instruction,input,output", '"Translate, please.",house,Haus', ",,", "Say it.,,It."]
    text = "\n".join(line.replace(",", separator) for line in lines).replace(f"Translate{separator}", "Translate,")
    rows = read_file(written(tmp_path / name, said.format(separator) + text), "file a", PAIRS).rows
    assert [row.named for row in rows] == [PAIR, OTHER]
    assert [row.number for row in rows] == [2 + bool(said), 4 + bool(said)]


def test_spaces_behind_commas_belong_to_no_cell(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", 'instruction, input, output\n"Translate, please.", house, "Haus"\n')
    assert named(path) == [PAIR]


def test_parquet_is_read(tmp_path: Path) -> None:
    from datetime import date

    rows = [{**PAIR, "on": date(2024, 5, 1)}, {**OTHER, "on": None}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    read = read_file(tmp_path / "rows.parquet", "file a", PAIRS)
    assert [row.named for row in read.rows] == [PAIR, OTHER]
    assert read.rows[0].fields["on"] == "2024-05-01"
    assert read.rows[1].where == "file a, row 2"


# -- names ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        ("instruction", "Input", "output"),
        ("instruction", "context", "response"),
        ("Instruction", " INPUT ", "Output"),
        ("prompt", "input", "completion"),
        ("question", "context", "answer"),
        ("instruction", "input_text", "expected_output"),
    ],
)
@pytest.mark.parametrize("form", ["csv", "jsonl", "json"])
def test_other_names_of_a_column_are_read_with_a_note(tmp_path: Path, names: tuple[str, ...], form: str) -> None:
    row = dict(zip(names, PAIR.values(), strict=True))
    text = {"jsonl": json.dumps(row), "json": json.dumps([row])}.get(form)
    path = written(tmp_path / f"a.{form}", text or ",".join(names) + '\n"Translate, please.",house,Haus\n')
    read = read_file(path, "file a", PAIRS)
    assert [dict(sorted(r.named.items())) for r in read.rows] == [dict(sorted(PAIR.items()))]
    strange = [name.strip() for name in names if name not in PAIR] if form == "csv" else set(names) - set(PAIR)
    assert len(read.notes) == len([name for name in strange if name not in PAIR])
    assert all(" is read as " in note for note in read.notes)


def test_two_columns_for_one_are_refused(tmp_path: Path) -> None:
    said = "'prompt' and 'question' would both be read as instruction; keep one of them"
    for content, problem in (
        ('{"prompt": "a", "question": "b", "output": "c"}', said),
        ('{"instruction": "a", "input": "b", "Input": "c", "output": "d"}', "'input' and 'Input' would both"),
    ):
        with pytest.raises(UsageError, match=f"^file a, line 1: {problem}"):
            read_file(written(tmp_path / "a.jsonl", content), "file a", PAIRS)


def test_what_is_not_read_is_told_where_it_may_belong_to_the_task(tmp_path: Path) -> None:
    row = {**PAIR, "hint": "a", "context": "b", "id": 7, "source": "c"}
    path = written(tmp_path / "a.jsonl", json.dumps(row))
    assert read_file(path, "file a", PAIRS).notes == ("file a: not read: 'hint', 'context'",)
    assert read_file(path, "file a", TEXTS).notes == ()
    assert named(path) == [PAIR]


CHAT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]


@pytest.mark.parametrize(
    "row",
    [
        {"messages": CHAT},
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}, CHAT[1]]},
        {"prompt": CHAT[:1], "completion": CHAT[1:]},
    ],
)
def test_one_question_and_one_answer_of_a_chat_are_a_pair(tmp_path: Path, row: dict[str, Any]) -> None:
    path = written(tmp_path / "a.jsonl", json.dumps(row))
    assert named(path) == [{"instruction": "Hi", "output": "Hello"}]
    assert read_file(path, "file a", PAIRS).rows[0].fields == row


def test_a_chat_in_parquet_is_read(tmp_path: Path) -> None:
    parquet.write_table(pyarrow.Table.from_pylist([{"messages": [{**CHAT[0], "name": "x"}, CHAT[1]]}]), tmp_path / "a")
    assert named(tmp_path / "a") == [{"instruction": "Hi", "output": "Hello"}]


def test_a_system_message_that_is_left_out_is_told(tmp_path: Path) -> None:
    row = {"messages": [{"role": "system", "content": "Be brief"}, *CHAT]}
    read = read_file(written(tmp_path / "a.jsonl", json.dumps(row)), "file a", PAIRS)
    assert read.notes == ("file a: the system messages of 1 rows are not read",)


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        (
            CHAT * 2,
            "messages holds 4 messages (user, assistant, user, assistant); give one user message",
        ),
        (CHAT[1:], "messages holds 1 messages (assistant)"),
        ([{"role": "tool", "content": "x"}], "messages has a message that is no text of user, assistant or system"),
        ([{"role": "user", "content": None}], "messages has a message that is no text"),
        (["Hi"], "messages must hold messages with role and content"),
    ],
)
def test_other_chats_are_refused(tmp_path: Path, messages: list[Any], said: str) -> None:
    path = written(tmp_path / "a.jsonl", json.dumps({"messages": messages}))
    with pytest.raises(UsageError) as caught:
        read_file(path, "file a", PAIRS)
    assert str(caught.value).startswith(f"file a, line 1: {said}")


# -- faults --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", b'{"text": "x"}\n\n{"text"', "file a, line 3: broken JSON ("),
        ("a.jsonl", b'{"text": "x"}\n7', "file a, line 2: not an object with instruction or text"),
        ("a.jsonl", b'{"text": x}', "file a, line 1: broken JSON (Expecting value, column 10)"),
        ("a.json", b'[{"text": "x"},\n{"text" 1}]', "file a, item 2: broken JSON (Expecting ':' delimiter, line 2"),
        ("a.txt", b"\nWrite a poem.\n", "file a, line 2: not a JSON object with instruction or text; if the file is"),
        ("a.jsonl", b'{"text": "x"}\n{"text": "caf\xe9"}', "file a, line 2: not UTF-8; save the file as UTF-8"),
        ("a.jsonl", b'{"text": "x", "text": "y"}', "file a, line 1: broken JSON (the key 'text' stands twice)"),
        ("a.json", b'{"data": [{"text": "x"}],\n "version": 1}', "file a, item 1: no instruction or text; it has"),
        ("a.csv", b"text\nx\ncaf\xe9\n", "file a, line 3: not UTF-8; save the file as UTF-8"),
        ("a.csv", b"title,n\nx,1\n", "file a, line 1: no column named instruction or text; the columns are title, n"),
        ("a.csv", b"text,n,n\nx,1,2\n", "file a, line 1: the column 'n' stands twice"),
        ("a.csv", b"text,n\nx,1\ny,z,2\n", "file a, line 3: more cells than columns; put quotes around what holds a"),
        ("a.csv", b"text;n\nx;1\ny;z;2\n", "file a, line 3: more cells than columns; put quotes around what holds a"),
        ("a.csv", b"text\nx\n" + b"y" * 140_000, "file a, line 3: broken CSV ("),
        ("a.csv", b'text\nx\n"y\nz\n', "file a, line 3: broken CSV (a quote is never closed"),
        ("a.csv", b'text,n\n"y\nz,"1"\n', "file a, line 2: broken CSV ("),
        ("a.csv", b'text\n"x"y\n', "file a, line 2: broken CSV (a cell goes on behind its closing quote; write a"),
        ("a.csv", b"PK\x03\x04\x14", "file a, line 1: not UTF-8: the file is a spreadsheet or a zip archive; save the"),
        ("a.jsonl", b"ARROW1\x00", "file a, line 1: not UTF-8: the file is an Arrow file; write it as JSONL"),
        ("a.csv", "text".encode("utf-16"), "file a, line 1: not UTF-8: the file is UTF-16; save the file as UTF-8"),
        ("a.parquet", b"PAR1" + b"x" * 40, "file a is no whole parquet file ("),
    ],
)  # fmt: skip
def test_a_fault_is_told_with_its_place(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_file(written(tmp_path / name, content), "file a", TEXTS)
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_absent_a_folder_or_unreadable_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^file a is not there$"):
        read_file(tmp_path / "absent.csv", "file a", TEXTS)
    with pytest.raises(UsageError, match=r"^file a is a folder; give a JSONL, CSV or parquet file$"):
        read_file(tmp_path, "file a", TEXTS)
    with pytest.raises(UsageError, match=r"^file a can't be read: File name too long$"):
        read_file(tmp_path / ("x" * 300), "file a", TEXTS)


def test_seeds_pairs_and_the_novelty_filter_tell_the_same_faults(tmp_path: Path) -> None:
    path = written(tmp_path / "rows.csv", "instruction,output\nName it,x\nName, it,x\n")
    with pytest.raises(UsageError, match=r"^seeds file .*rows.csv, line 3: more cells than columns"):
        load_seeds(str(path))
    for reader in (read_rows, read_pairs):
        with pytest.raises(UsageError, match=r"^/.*rows.csv, line 3: more cells than columns"):
            reader(path)
