"""Promises of what is printed: texts are shown as they are, on any terminal, and nothing in them is markup."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import refine_af
from refine_af.cli import main
from refine_af.console import plain_console, print_error
from refine_af.display import LiveDisplay
from refine_af.errors import UsageError
from refine_af.status import render_status

NASTY = "[/INST] [b] [red]x[/red] [MASK] :smile: [link=http://a]"
TASKS = [
    {"id": "1", "task": NASTY, "category": f"c {NASTY}", "instruction": "Name.", "output": "Oslo"},
    {"id": "2", "instruction": f"Fill {NASTY}", "output": "Oslo"},
]
Called = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Called:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    jsonl("t.jsonl", TASKS)
    jsonl("p.jsonl", [{"id": row["id"], "prediction": NASTY} for row in TASKS])

    def called(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["refine-af", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return called


def jsonl(path: str, rows: list[dict[str, str]]) -> None:
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


# -- nothing is markup -------------------------------------------------------------------------------------


def test_there_is_one_place_that_makes_consoles_and_none_that_reads_markup() -> None:
    source = Path(refine_af.__file__).parent
    for file in source.rglob("*.py"):
        code = file.read_text(encoding="utf-8")
        if file.name != "console.py":
            assert not re.search(r"(?<![\w.])Console\(", code), f"{file}: plain_console() makes consoles"
        assert "from_markup" not in code, file
        assert "rich.markup" not in code, file
        assert not re.search(r"TextColumn\((?!.*markup=False)", code), file


def test_score_shows_names_as_they_are(call: Called) -> None:
    code, out, _ = call("score", "p.jsonl", "--tasks", "t.jsonl")
    assert code == 0
    assert out.count(NASTY) == 3


def test_evaluate_and_compare_show_names_as_they_are(call: Called, tiny_model: Path) -> None:
    base = ("evaluate", str(tiny_model), "--tasks", "t.jsonl", "-q", "--set", "threads=1", "--max-target", "2")
    for folder in ("[/a]", "[b]"):
        code, out, _ = call(*base, "--set", "model.quantization=float32", "--out", folder)
        assert code == 0
        assert NASTY in out
    rows = [json.loads(line) for line in Path("[b]/predictions.jsonl").read_text().splitlines()]
    Path("[b]/predictions.jsonl").write_text("".join(json.dumps({**r, "rouge_l": 9.0}) + "\n" for r in rows))
    code, out, _ = call("compare", "[/a]", "[b]")
    assert code == 0
    assert "[b] against [/a]" in out
    assert f"c {NASTY}" in out
    assert f"Fill {NASTY}"[:50] in out


def test_score_pairs_shows_texts_and_scorers_as_they_are(call: Called) -> None:
    jsonl("pairs.jsonl", [{"instruction": NASTY, "input": NASTY, "output": NASTY}])
    scorers = 'feedback.scorers={"[/c]": {use: format, calibrated: false}}'
    code, out, _ = call("score-pairs", "pairs.jsonl", "--feedback", "composite", "--set", scorers)
    assert code == 0
    assert out.count(NASTY) == 3
    assert "[/c]" in out


def test_plan_and_doctor_show_names_and_advice_as_they_are(call: Called) -> None:
    named = ("--set", 'model.name="./[/INST] [b]"')
    assert "./[/INST] [b]" in call("plan", *named)[1]
    code, out, _ = call("doctor", *named)
    assert code == 1
    assert "./[/INST] [b]" in out


def test_novelty_errors_and_notes_show_names_as_they_are(call: Called) -> None:
    Path("[b] [a].csv").write_text("prompt\none\n")
    code, out, err = call("novelty", "[b] [a].csv")
    assert (code, out) == (0, "1 kept of 1\n")
    assert err == "note: [b] [a].csv: 'prompt' is read as instruction\n"
    assert call("novelty", "[/none].jsonl") == (2, "", "refine-af: [/none].jsonl is not there\n")


def test_status_shows_reasons_as_they_are() -> None:
    out = io.StringIO()
    stage = {"status": f"s {NASTY}", "counts": {"read": 1, "kept": 0}, "rejected": {NASTY: 1}}
    made = {"tuned": 1, "initial": 1, "best_of_n": 0}
    found = {"stages": {"seeds": stage}, "instances": made, "instructions": 1, "selected": 0, "reward": {}}
    render_status(found, plain_console(file=out, width=300))
    assert out.getvalue().count(NASTY) == 2


def test_the_live_display_shows_stages_figures_and_summaries_as_they_are() -> None:
    out = io.StringIO()
    with LiveDisplay(plain_console(file=out, width=300, force_terminal=True)) as display:
        display.note(f"note {NASTY}")
        display.begin(f"stage {NASTY}", 2, "rows")
        display.update(1, {f"figure {NASTY}": f"value {NASTY}"})
        display._live.refresh()
        display.end(f"summary {NASTY}")
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())
    for what in ("note", "stage", "figure", "value", "summary"):
        assert f"{what} {NASTY}" in shown


# -- on any terminal -----------------------------------------------------------------------------------


def test_an_error_is_one_line_whatever_is_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    print_error(UsageError("a\nb\x1b[31m\u2028c is not there"))
    assert capsys.readouterr().err == "refine-af: a b [31m c is not there\n"


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "utf-8"])
def test_what_an_encoding_lacks_is_replaced(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "t.jsonl").write_text(
        '{"id": "1", "task": "Größe 日本 …", "instruction": "a", "output": "b"}\n', "utf-8"
    )
    (tmp_path / "p.jsonl").write_text('{"id": "1", "prediction": "b"}\n', "utf-8")
    words = ["-m", "refine_af", "score", "p.jsonl", "--tasks", "t.jsonl"]
    environment = {
        "PYTHONIOENCODING": encoding,
        "PYTHONPATH": str(Path(refine_af.__file__).parents[1]),
        "COLUMNS": "90",
    }
    for more in ((), ("--json",)):
        ended = subprocess.run(
            [sys.executable, *words, *more], cwd=tmp_path, env=environment, capture_output=True, check=False
        )
        assert (ended.returncode, ended.stderr) == (0, b"")
        if more:
            assert list(json.loads(ended.stdout.decode(encoding))["tasks"]) == ["Größe 日本 …"]
        else:
            shown = {"latin-1": "Größe ?? ...", "ascii": "Gr??e ?? ...", "utf-8": "Größe 日本 …"}[encoding]
            assert shown in ended.stdout.decode(encoding)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize(
    ("outlet", "code", "said"), [(">/dev/full", 2, "no disk space left where the output goes"), (">&-", 0, "")]
)
def test_an_output_that_is_full_or_closed_is_no_traceback(outlet: str, code: int, said: str) -> None:
    command = f'"{sys.executable}" -m refine_af config schema {outlet}'
    environment = {"PYTHONPATH": str(Path(refine_af.__file__).parents[1])}
    ended = subprocess.run(["sh", "-c", command], env=environment, capture_output=True, check=False, text=True)
    assert (ended.returncode, ended.stdout) == (code, "")
    assert said in ended.stderr
    assert len(ended.stderr.splitlines()) == bool(said)
