"""Promises of the one reader of users' files: what it reads, and each fault with the file, the line and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from refine_af.errors import UsageError
from refine_af.novelty.screen import read_rows
from refine_af.seeds import load_seeds
from refine_af.user_files import read_objects

COLUMNS = ("instruction", "text")


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "ROWS.CSV", ".csv", "rows"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_rows_come_with_their_lines(tmp_path: Path, name: str, mark: str, ending: str) -> None:
    as_csv = ["text,n", "one,1", "", "two,2"]
    as_json = ['{"text": "one", "n": "1"}', " ", '{"text": "two", "n": "2"}']
    rows = as_csv if name.lower().endswith("csv") else as_json
    (tmp_path / name).write_bytes((mark + ending.join(rows)).encode("utf-8"))
    read = list(read_objects(tmp_path / name, name, COLUMNS))
    assert read == [(len(rows) - 2, {"text": "one", "n": "1"}), (len(rows), {"text": "two", "n": "2"})]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", b'{"text": "x"}\n\n{"text"', "file a, line 3: broken JSON ("),
        ("a.jsonl", b'{"text": "x"}\n7', "file a, line 2: not an object with instruction or text"),
        ("a.jsonl", b'{"text": "x"}\n{"text": "caf\xe9"}', "file a, line 2: not UTF-8; save the file as UTF-8"),
        ("a.csv", b"text\nx\ncaf\xe9\n", "file a, line 3: not UTF-8; save the file as UTF-8"),
        ("a.csv", b"title,n\nx,1\n", "file a, line 1: no column named instruction or text"),
        ("a.csv", b"text,n\nx,1\ny,z,2\n", "file a, line 3: more cells than columns; put quotes around"),
        ("a.csv", b"text\nx\n" + b"y" * 140_000, "file a, line 3: broken CSV ("),
    ],
)
def test_a_fault_is_told_with_its_line(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError) as caught:
        list(read_objects(tmp_path / name, "file a", COLUMNS))
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_absent_a_folder_or_unreadable_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^file a is not there$"):
        read_objects(tmp_path / "absent.csv", "file a", COLUMNS)
    with pytest.raises(UsageError, match=r"^file a is a folder; give a JSONL or CSV file$"):
        read_objects(tmp_path, "file a", COLUMNS)
    with pytest.raises(UsageError, match=r"^file a can't be read: File name too long$"):
        read_objects(tmp_path / ("x" * 300), "file a", COLUMNS)


def test_seeds_and_the_novelty_filter_tell_the_same_faults(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("instruction,output\nName it,x\nName, it,x\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"^seeds file .*rows.csv, line 3: more cells than columns"):
        load_seeds(str(path))
    with pytest.raises(UsageError, match=r"^/.*rows.csv, line 3: more cells than columns"):
        read_rows(path)
