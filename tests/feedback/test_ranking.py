"""Promises of `refine-af score-pairs`: any file is scored in its order, what the reward is made of adds up, a call that
was stopped goes on, and a wrong file is one line."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refine_af.cli import main
from refine_af.errors import UsageError
from refine_af.feedback.base import Example, Judgement
from refine_af.feedback.ranking.rank import CHUNK, Ranked
from refine_af.feedback.ranking.rows import PairRow, read_pairs

PAIRS = [
    {"instruction": "Name a colour.", "output": "Blue.", "id": "one", "tags": ["short"]},
    {"instruction": "Sum up.", "input": "The mill burned down at night.", "output": "A mill burned."},
    {"instruction": "Say no.", "input": None, "output": "no no no no no no no no"},
    {"instruction": "Say a thing.", "input": "", "output": ""},
]
OWN = """
from pathlib import Path
class Counted:
    name, identity = "counted", "1"
    def score(self, examples):
        with open("asked.txt", "a") as file:
            file.write(f"{len(examples)}\\n")
        if Path("stop").exists() and len(Path("asked.txt").read_text().split()) > 1:
            raise KeyboardInterrupt
        return [float(len(e.output)) for e in examples]
def broken(prompts, completions, **kwargs):
    return [float("nan")] * len(prompts)
"""


class Result:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Result]]:
    """Calls the command in an empty folder, with a cache of its own and a module of the user's beside it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REFINE_AF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("OMP_WAIT_POLICY", "TQDM_DISABLE", "TOKENIZERS_PARALLELISM", "HF_HUB_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, "1")
    (tmp_path / "counting.py").write_text(OWN)

    def called(*words: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["refine-af", "score-pairs", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return Result(int(ended.value.code or 0), printed.out, printed.err)

    yield called
    sys.modules.pop("counting", None)


def jsonl(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# -- what comes out ------------------------------------------------------------------------------------


def test_rows_are_written_in_their_order_with_all_they_had_and_their_scores(call: Callable[..., Result]) -> None:
    jsonl(Path("pairs.jsonl"), PAIRS)
    result = call("pairs.jsonl", "--feedback", "variety", "--out", "scored.jsonl", "-q")
    assert (result.code, result.err) == (0, "")
    scored = lines(Path("scored.jsonl"))
    assert [{k: v for k, v in row.items() if k not in ("reward", "components")} for row in scored] == PAIRS
    assert [row["reward"] for row in scored[:3]] == [1.0, 1.0, pytest.approx(1 / 6)]
    assert [row["components"] for row in scored] == [{"variety": 1.0}, {"variety": 1.0}, {"variety": 1 / 6}, {}]
    assert scored[3]["reward"] < min(row["reward"] for row in scored[:3])


def test_csv_is_read_too(call: Callable[..., Result]) -> None:
    Path("pairs.csv").write_text('instruction,output,note\n"Name a colour, please.",Blue.,x\nGo.,"a b\nc",y\n')
    assert call("pairs.csv", "--feedback", "length", "--out", "scored.jsonl", "-q").code == 0
    assert [(row["reward"], row["note"]) for row in lines(Path("scored.jsonl"))] == [(1.0, "x"), (3.0, "y")]


def test_json_is_count_mean_and_components(call: Callable[..., Result]) -> None:
    jsonl(Path("pairs.jsonl"), PAIRS[:3])
    result = call("pairs.jsonl", "--feedback", "variety", "--json")
    found = json.loads(result.out)
    assert set(found) == {"count", "mean_reward", "components"}
    assert found["count"] == 3
    assert found["mean_reward"] == pytest.approx((2 + 1 / 6) / 3)
    variety = found["components"]["variety"]
    assert variety["mean"] == pytest.approx(found["mean_reward"])
    assert (variety["weight"], variety["variance"], variety["correlation"]) == (1.0, pytest.approx(1), pytest.approx(1))
    assert "score-pairs" in result.err  # progress stands beside the result, not in it


def test_people_get_a_table_and_the_pairs_at_both_ends(call: Callable[..., Result]) -> None:
    jsonl(Path("pairs.jsonl"), PAIRS)
    scorers = "feedback.scorers={variety: {minimum: 0.5, cap: -1}, loud: {use: length, weight: -0.5}}"
    out = call("pairs.jsonl", "--feedback", "composite", "--set", scorers, "--show", "1", "-q").out
    assert "4 pairs, mean reward" in out
    assert "gates and floor" in out
    for name in ("variety", "loud", "correlation"):
        assert name in out
    best, worst = out.split("Best")[1].split("Worst")
    assert "line 1" in best
    assert "Name a colour." in best
    assert "line 4" in worst
    assert "output: (empty)" in worst


def test_with_show_0_there_is_the_table_alone(call: Callable[..., Result]) -> None:
    jsonl(Path("pairs.jsonl"), PAIRS)
    out = call("pairs.jsonl", "--feedback", "variety", "--show", "0", "-q").out
    assert "Best" not in out
    assert "Worst" not in out


def test_a_pair_is_never_shown_at_both_ends(call: Callable[..., Result]) -> None:
    jsonl(Path("pairs.jsonl"), PAIRS[:3])
    out = call("pairs.jsonl", "--feedback", "variety", "--show", "2", "-q").out
    assert [out.count(f"line {n} ") for n in (1, 2, 3)] == [1, 1, 1]


def test_what_a_model_wrote_can_not_move_the_cursor(call: Callable[..., Result]) -> None:
    jsonl(Path("pairs.jsonl"), [{"instruction": "[red]x[/]", "output": "\x1b[2Jgone"}])
    out = call("pairs.jsonl", "--feedback", "variety", "-q").out
    assert "\x1b[2J" not in out
    assert "[red]x[/]" in out


def test_the_embedded_reward_scores_a_file_without_a_run(call: Callable[..., Result], tiny_model: Path) -> None:
    jsonl(Path("pairs.jsonl"), PAIRS)
    settings = ("--set", f"model.name={tiny_model}", "--set", "threads=1")
    result = call("pairs.jsonl", "--feedback", "embedded", *settings, "--json", "-q")
    assert result.code == 0, result.err
    assert json.loads(result.out)["count"] == 4
    assert {"contrastive", "content"} <= set(json.loads(result.out)["components"])


# -- stopped, and called again -------------------------------------------------------------------------


def asked() -> list[int]:
    return [int(n) for n in Path("asked.txt").read_text().split()]


def test_a_second_call_scores_what_is_new_alone(call: Callable[..., Result]) -> None:
    jsonl(Path("pairs.jsonl"), PAIRS[:2])
    call("pairs.jsonl", "--feedback", "counting:Counted", "-q")
    jsonl(Path("pairs.jsonl"), [*PAIRS[:3], *PAIRS[:3]])
    first = call("pairs.jsonl", "--feedback", "counting:Counted", "--json", "-q").out
    assert asked() == [2, 1]
    assert call("pairs.jsonl", "--feedback", "counting:Counted", "--json", "-q").out == first
    assert asked() == [2, 1]


def test_stopped_by_control_c_the_same_command_goes_on(call: Callable[..., Result]) -> None:
    jsonl(Path("pairs.jsonl"), [{"instruction": "Say it.", "output": f"word {i}"} for i in range(CHUNK + 20)])
    Path("stop").touch()
    words = ("pairs.jsonl", "--feedback", "counting:Counted", "--out", "scored.jsonl", "-q")
    stopped = call(*words)
    assert (stopped.code, stopped.out) == (130, "")
    assert stopped.err == "refine-af: stopped; the same command goes on from here\n"
    assert not Path("scored.jsonl").exists()
    Path("stop").unlink()
    assert call(*words).code == 0
    assert asked() == [CHUNK, 20, 20]
    assert len(lines(Path("scored.jsonl"))) == CHUNK + 20


# -- wrong input ---------------------------------------------------------------------------------------

GOOD = '{"instruction": "a", "output": "b"}\n'
WRONG: dict[str, tuple[str, bytes | None, tuple[str, ...], str]] = {
    "not there": ("pairs.jsonl", None, (), "pairs.jsonl is not there"),
    "empty": ("pairs.jsonl", b"", (), "pairs.jsonl holds no pair"),
    "blank": ("pairs.jsonl", b"\n \n", (), "pairs.jsonl holds no pair"),
    "not UTF-8": ("pairs.jsonl", GOOD.encode() + b'{"instruction": "\xff"}', (), "pairs.jsonl, line 2: not UTF-8"),
    "broken": ("pairs.jsonl", GOOD.encode() + b"\n{oops", (), "pairs.jsonl, line 3: broken JSON"),
    "no object": ("pairs.jsonl", b"[1, 2]", (), "pairs.jsonl, item 1: not an object"),
    "no instruction": ("pairs.jsonl", b'{"output": "b"}', (), "pairs.jsonl, line 1: no instruction"),
    "no output": ("pairs.jsonl", GOOD.encode() + b'{"instruction": "a"}', (), "pairs.jsonl, line 2: no output"),
    "a null output": ("pairs.jsonl", b'{"instruction": "a", "output": null}', (), "line 1: no output"),
    "a number": ("pairs.jsonl", b'{"instruction": "a", "output": 7}', (), "line 1: output must be text, not int"),
    "a list": ("pairs.jsonl", b'{"instruction": "a", "input": [], "output": "b"}', (), "input must be text, not list"),
    "half a character": ("pairs.jsonl", b'{"instruction": "a", "output": "\\ud800"}', (), "output holds half of a"),
    "no column": ("pairs.csv", b"instruction,verdict\na,b\n", (), "pairs.csv, line 1: no column named output"),
    "too many cells": ("pairs.csv", b"instruction,output\na,b\na,b,c\n", (), "pairs.csv, line 3: more cells"),
    "too few cells": ("pairs.csv", b"instruction,output\na\n", (), "pairs.csv, line 2: no output"),
    "half a parquet": ("pairs.parquet", b"PAR1", (), "pairs.parquet is no whole parquet file"),
    "out is a folder": ("pairs.jsonl", GOOD.encode(), ("--out", "."), "--out . is a folder"),
    "out is nowhere": ("pairs.jsonl", GOOD.encode(), ("--out", "none/x.jsonl"), "is not there; make it first"),
    "unknown feedback": ("pairs.jsonl", GOOD.encode(), ("--feedback", "varity"), "did you mean 'variety'"),
    "a negative number": ("pairs.jsonl", GOOD.encode(), ("--show", "-1"), "--show"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_one_line_exit_2_and_nothing_written(call: Callable[..., Result], name: str) -> None:
    file, content, words, said = WRONG[name]
    if content is not None:
        Path(file).write_bytes(content)
    before = sorted(Path.cwd().rglob("*"))
    out = () if "--out" in words else ("--out", "scored.jsonl")
    result = call(file, "--feedback", "variety", *out, *words)
    assert (result.code, result.out) == (2, "")
    assert said in result.err
    assert len(result.err.splitlines()) == 1
    assert sorted(p for p in Path.cwd().rglob("*") if "__pycache__" not in p.parts) == before


def test_a_scorer_that_fails_is_told_and_what_others_scored_is_kept(call: Callable[..., Result]) -> None:
    jsonl(Path("pairs.jsonl"), PAIRS)
    scorers = "feedback.scorers={c: {use: 'counting:Counted'}, b: {use: 'counting:broken', calibrated: false}}"
    for _ in range(2):
        result = call("pairs.jsonl", "--feedback", "composite", "--set", scorers, "-q")
        assert (result.code, result.out) == (1, "")
        assert result.err.startswith("refine-af: scorer 'b' returned nan for the output 'Blue.'")
    assert len(asked()) == 2  # the seeds and the pairs, once


# -- the figures ---------------------------------------------------------------------------------------


def ranked(values: list[tuple[float, float, float]]) -> Ranked:
    """Rows whose rewards are the sum of two components, an offset, and what a gate changes."""
    rows = tuple(PairRow(i, Example("a", "", "b"), {}) for i in range(len(values)))
    judgements = tuple(
        Judgement(1.5 + 2 * a - b + gate, {"a": a, "b": b}, {"a": 2 * a, "b": -b}) for a, b, gate in values
    )
    return Ranked(rows, judgements, {"a": 2.0, "b": -1.0}, 1.5)


figures = st.floats(-100, 100).map(lambda x: round(x, 3))


@given(st.lists(st.tuples(figures, figures, figures), min_size=1, max_size=12))
def test_the_parts_add_up_to_the_mean_and_to_the_variance(values: list[tuple[float, float, float]]) -> None:
    found = ranked(values)
    shares, (rest, rest_variance) = found.shares(), found.rest()
    total = found.offset + rest + sum(s.contribution for s in shares.values())
    assert total == pytest.approx(found.summary()["mean_reward"], abs=1e-6)
    variances = [s.variance for s in shares.values()]
    if rest_variance is None:
        assert variances == [None, None]
    else:
        assert rest_variance + math.fsum(v for v in variances if v is not None) == pytest.approx(1, abs=1e-6)
    assert all(s.correlation is None or -1 <= s.correlation <= 1 for s in shares.values())


def test_equal_rewards_keep_the_files_order() -> None:
    assert ranked([(1, 0, 0), (2, 0, 0), (1, 0, 0), (2, 0, 0)]).order() == [1, 3, 0, 2]


@pytest.mark.parametrize("content", ["\ufeff" + GOOD, GOOD.replace("\n", "\r\n"), "\n\n" + GOOD, GOOD.strip()])
def test_marks_and_line_ends_of_any_editor_are_read(tmp_path: Path, content: str) -> None:
    (tmp_path / "pairs.jsonl").write_bytes(content.encode())
    assert [row.example for row in read_pairs(tmp_path / "pairs.jsonl")] == [Example("a", "", "b")]


def test_line_separators_inside_a_text_end_no_row(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text('{"instruction": "a\u2028b", "output": "c\x85d"}\n', encoding="utf-8")
    (row,) = read_pairs(tmp_path / "pairs.jsonl")
    assert row.example == Example("a\u2028b", "", "c\x85d")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder"):
        read_pairs(tmp_path)
