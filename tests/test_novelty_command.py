"""Promises of `refine-af novelty`: it keeps what is new, says what repeats what, and a wrong file is one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from refine_af.cli import main
from refine_af.novelty.screen import read_rows, screen

ROWS = ["Name three rivers of Europe.", "name three rivers of europe!", "Write a poem on rain.", "Explain the tides."]


def jsonl(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.argv", ["refine-af", "novelty", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out, printed.err


def test_rows_that_repeat_one_before_or_one_of_the_other_file_are_dropped_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = jsonl(tmp_path / "rows.jsonl", [{"instruction": row, "n": i} for i, row in enumerate(ROWS)])
    other = jsonl(tmp_path / "test.jsonl", [{"text": "Something else"}, {"text": "explain the TIDES"}])
    code, out, err = call(monkeypatch, capsys, file, "--against", other, "--out", tmp_path / "novel", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == {
        "read": 4,
        "kept": 2,
        "dropped": 2,
        "reasons": {"not novel": 1, "contamination": 1},
        "tokenization": "rouge-score",
    }
    kept, dropped = (
        [json.loads(line) for line in (tmp_path / "novel" / name).read_text(encoding="utf-8").splitlines()]
        for name in ("kept.jsonl", "dropped.jsonl")
    )
    assert kept == [{"instruction": ROWS[0], "n": 0}, {"instruction": ROWS[2], "n": 2}]
    assert [(d["n"], d["reason"], d["rouge_l"], d["nearest_line"]) for d in dropped] == [
        (1, "not novel", 1.0, 1),
        (3, "contamination", 1.0, 2),
    ]


def test_without_json_it_prints_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rows.txt"
    file.write_text("\n\n".join(ROWS), encoding="utf-8")
    assert call(monkeypatch, capsys, file) == (0, "3 kept of 4; dropped: 1 not novel\n", "")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.jsonl", '{"text": "one two"}\n\n{"instruction": "three", "text": "four"}\n'),
        ("rows.csv", 'text,other\none two,x\n"three",y\n'),
        ("rows.txt", "one two\r\nthree\r\n"),
        ("rows", "\ufeffone two\nthree"),
        ("rows.txt", "one two\rthree\r"),
        ("rows.json", '[{"text": "one two"}, {"Text": "three"}]'),
        ("rows.tsv", "n\ttext\n1\tone two\n2\tthree\n"),
    ],
)
def test_jsonl_csv_and_plain_lines_are_read(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode("utf-8"))
    assert [row.text for row in read_rows(path)] == ["one two", "three"]


def test_what_was_dropped_is_not_compared_with() -> None:
    from refine_af.novelty.screen import Row

    texts = ["a b c d e f g h i j", "a b c d e f g h x y", "a b c d x y g h z w"]
    screened = screen([Row(i, text, {}) for i, text in enumerate(texts)])
    assert [row.line for row in screened.kept] == [0, 2]


@pytest.mark.parametrize(
    ("name", "content", "words", "said"),
    [
        ("rows.jsonl", '{"text": "a"}\nnonsense', (), "line 2: broken JSON"),
        ("rows.jsonl", "[1]", (), "item 1: not an object"),
        ("rows.jsonl", '{"output": "a"}', (), "line 1: no instruction or text; it has output"),
        ("rows.jsonl", '{"text": null}', (), "line 1: neither an instruction nor a text"),
        ("rows.csv", 'text\n"Write a poem.\nName five trees.\n', (), "line 2: broken CSV (a quote is never closed"),
        ("rows.txt", '{"text": "a"}\n{"text": "b"}', (), "rows.txt looks like JSON; name it .jsonl"),
        ("rows.jsonl", '{"text": 7}', (), "line 1: the text must be text, not int"),
        ("rows.csv", "a,b\n1,2\n", (), "no column named instruction or text"),
        ("rows.csv", "text\n1,2\n", (), "line 2: more cells than columns"),
        ("rows.parquet", "PAR1", (), "is no whole parquet file"),
        ("rows.txt", "a", ("--threshold", "0"), "--threshold must lie in (0, 1], not 0.0"),
        ("rows.txt", "a", ("--threshold", "nan"), "--threshold must lie in (0, 1], not nan"),
        ("rows.txt", "a", ("--against", "absent.txt"), "absent.txt is not there"),
        ("rows.txt", "a", ("--out", "rows.txt"), "can't be written"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    content: str,
    words: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_text(content, encoding="utf-8")
    code, out, err = call(monkeypatch, capsys, name, *words)
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.splitlines()) == 1


@pytest.fixture
def chinese(tmp_path: Path) -> tuple[Path, Path]:
    same = jsonl(tmp_path / "same.jsonl", [{"instruction": "写一首关于雨的诗。"}] * 3)
    texts = ("用Python写一个排序函数。", "解释Python的历史。", "推荐三本Python入门书。")
    return same, jsonl(tmp_path / "other.jsonl", [{"instruction": text} for text in texts])


def test_rows_of_another_language_are_compared_by_its_words(
    chinese: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    same, other = chinese
    assert call(monkeypatch, capsys, same, "--language", "zh") == (0, "1 kept of 3; dropped: 2 not novel\n", "")
    assert call(monkeypatch, capsys, other, "--language", "zh") == (0, "3 kept of 3\n", "")
    code, out, err = call(monkeypatch, capsys, same, "--against", same, "--language", "zh", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["reasons"] == {"not novel": 0, "contamination": 3}
    assert json.loads(out)["tokenization"] == "unicode"


def test_rows_that_english_does_not_see_are_told(
    chinese: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in chinese:
        code, _, err = call(monkeypatch, capsys, file)
        assert code == 0
        assert "set --language to the texts' own" in err
    assert "3 of 3 rows have no words to compare, so they are kept" in call(monkeypatch, capsys, chinese[0])[2]


def test_what_is_no_language_is_one_line(
    chinese: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = call(monkeypatch, capsys, chinese[0], "--language", "Chinese")
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
