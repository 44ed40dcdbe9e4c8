"""Promises of `refine-af compare`: what it reads, prints, draws, and how it refuses."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from refine_af.cli import main
from refine_af.evaluation.compare import compare_evaluations
from refine_af.evaluation.comparison_chart import difference_chart
from refine_af.evaluation.comparison_files import read_evaluation

Call = Callable[..., tuple[int, str, str]]
SETTINGS: dict[str, Any] = {"model": "a", "shots": 0, "cut": "line"}


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Call:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")

    def called(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["refine-af", "compare", *arguments])
        capfd.readouterr()
        try:
            main()
            code: Any = 0
        except SystemExit as exit:
            code = exit.code or 0
        return (code, *capfd.readouterr())

    return called


def write(folder: str, change: float = 0.0, *, tasks: int = 8, **settings: Any) -> Path:
    """An evaluation of tasks whose scores move by ``change`` times their number, the last one not at all."""
    rows = [
        {
            "id": f"{task}-{place}",
            "task": f"task{task:03}_of_some_kind",
            "category": "Title Generation" if task % 2 else "Word Analogy",
            "prediction": "words",
            "rouge_l": 40.0 + place + change * (tasks - 1 - task),
            "exact_match": 0.0,
        }
        for task in range(tasks)
        for place in range(6)
    ]
    path = Path(folder)
    path.mkdir()
    (path / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    categories = {"Word Analogy": {"metric": "exact_match"}, "Title Generation": {"metric": "rouge_l"}}
    summary = {"settings": {**SETTINGS, **settings}, "rouge_l": 40.0, "categories": categories}
    (path / "scores.json").write_text(json.dumps(summary), encoding="utf-8")
    return path


def test_the_table_shows_counts_categories_tasks_and_a_conclusion(call: Call) -> None:
    write("initial"), write("tuned", 1.0, model="b")
    code, out, err = call("initial", "tuned")
    assert (code, err) == (0, "")
    words = " ".join(out.split())
    assert "tuned against initial, ROUGE-L: 7 won, 1 tied, 0 lost of 8 tasks, 48 instances" in words
    assert "Word Analogy 4/0/0" in words
    assert "Title Generation 3/1/0" in words
    assert "task000_of_some_kind +7.00" in words
    assert "tuned scores higher than initial in ROUGE-L on 100 % of the decided tasks (7 of 7; 1 tie apart)" in words


def with_likelihoods(folder: Path, content: float, questions: str = "same") -> None:
    file = folder / "scores.json"
    figures = {"references": 5, "content": content, "margin": 2 * content, "end": -1.0, "loss": -content}
    found = {"questions": questions, "tasks": {f"task{number}": figures for number in range(8)}}
    file.write_text(json.dumps({**json.loads(file.read_text()), "likelihood": found}), encoding="utf-8")


def test_the_references_likelihoods_are_compared_and_what_they_can_not_show_is_said(call: Call) -> None:
    with_likelihoods(write("a"), -2.0)
    with_likelihoods(write("b", 1.0), -1.5)
    code, out, _ = call("a", "b")
    assert code == 0
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "content -1.500 -2.000 +0.500 +0.500 to +0.500 8/0" in lines
    assert "loss (lower is better) 1.500 2.000 −0.500 −0.500 to −0.500 8/0" in lines
    assert "still answer badly" in " ".join(out.split())
    found = json.loads(call("a", "b", "--json")[1])["against"][0]["likelihoods"]
    assert [(one["figure"], one["wins"], one["losses"]) for one in found] == [
        ("content", 8, 0),
        ("margin", 8, 0),
        ("end", 0, 0),
        ("loss", 8, 0),
    ]


def test_likelihoods_of_other_texts_are_not_compared_and_it_is_said(call: Call) -> None:
    with_likelihoods(write("a"), -2.0)
    with_likelihoods(write("b", 1.0), -1.5, "other")
    code, out, _ = call("a", "b")
    assert code == 0
    assert "likelihoods are not compared: the two evaluations scored different ones" in " ".join(out.split())
    assert "references, in nats" not in out
    write("c")
    assert "likelihoods" not in call("a", "c")[1], "one side alone has none to compare"


def test_every_other_evaluation_is_compared_with_the_first(call: Call) -> None:
    write("initial"), write("tuned", 1.0), write("worse", -1.0)
    found = json.loads(call("initial", "tuned", "worse", "--json")[1])
    assert [(one["name"], one["overall"]["wins"]) for one in found["against"]] == [("tuned", 7), ("worse", 0)]


def test_the_official_metric_goes_by_category(call: Call) -> None:
    write("initial"), write("tuned", 1.0)
    found = json.loads(call("initial", "tuned", "--metric", "official", "--json")[1])
    # The four tasks of Word Analogy go by exact match, which is 0 on both sides.
    assert (found["against"][0]["overall"]["wins"], found["against"][0]["overall"]["ties"]) == (3, 5)


def test_an_evaluation_compared_with_itself_ties(call: Call) -> None:
    write("initial")
    code, out, _ = call("initial", "initial", "--json")
    found = json.loads(out)["against"][0]
    assert (code, found["verdict"], found["overall"]["ties"]) == (0, "ties", 8)
    assert "NaN" not in out
    assert call("initial", "initial")[0] == 0


def test_show_says_how_many_tasks_are_shown(call: Call) -> None:
    write("initial"), write("tuned", 1.0)
    assert call("initial", "tuned", "--show", "0")[1].count("of_some_kind") == 0
    assert call("initial", "tuned", "--show", "2")[1].count("of_some_kind") == 4
    assert call("initial", "tuned", "--show", "99")[1].count("of_some_kind") == 7


def test_the_same_seed_gives_the_same_and_another_one_other_intervals(call: Call) -> None:
    write("initial"), write("tuned", 1.0)
    first, again, other = (call("initial", "tuned", "--json", "--seed", seed)[1] for seed in ("1", "1", "2"))
    assert first == again != other


# -- the chart -----------------------------------------------------------------------------------------


def test_the_chart_is_one_file_with_every_decided_task_sorted(call: Call, tmp_path: Path) -> None:
    write("initial"), write("tuned", 1.0), write("worse", -1.0)
    assert call("initial", "tuned", "worse", "--chart", "chart.svg")[0] == 0
    text = (tmp_path / "chart.svg").read_text(encoding="utf-8")
    root = ElementTree.fromstring(text)
    shown = [e.text or "" for e in root.iter("{http://www.w3.org/2000/svg}text")]
    names = [t for t in shown if t.startswith("task0")]
    assert names == [f"task{n:03}_of_some_kind" for n in (*range(7), *range(6, -1, -1))]
    assert shown.count("1 task tied") == 2
    assert {"+7.00", "−7.00", "tuned − initial", "worse − initial"} <= set(shown)
    assert "prefers-color-scheme: dark" in text
    assert "href" not in text
    assert "url(" not in text


def test_bars_are_as_long_as_their_differences_and_on_their_side(call: Call, tmp_path: Path) -> None:
    write("initial"), write("tuned", 1.0), write("worse", -1.0)
    call("initial", "tuned", "worse", "--chart", "chart.svg")
    svg = "{http://www.w3.org/2000/svg}"
    root = ElementTree.parse(tmp_path / "chart.svg").getroot()
    drawn = [bar.attrib for bar in root.iter(f"{svg}rect") if bar.attrib["class"] != "paper"]
    bars = [(float(bar["x"]), float(bar["width"]), bar["class"]) for bar in drawn]
    zero, longest = bars[0][0], bars[0][1]
    assert [round(7 * width / longest, 1) for _, width, _ in bars] == [7, 6, 5, 4, 3, 2, 1, 1, 2, 3, 4, 5, 6, 7]
    assert all(x == zero and css.startswith("f0") for x, _, css in bars[:7])
    assert all(x + width == pytest.approx(zero, abs=0.11) and css.startswith("f1") for x, width, css in bars[7:])


def test_in_a_page_the_chart_has_the_pages_style_and_none_of_its_own(call: Call, tmp_path: Path) -> None:
    both = [read_evaluation(write("initial")), read_evaluation(write("tuned", 1.0))]
    chart = difference_chart(compare_evaluations(both[0], both[1:]))
    assert "<style" not in chart
    assert chart.startswith('<svg class="chart"')
    assert chart.count("<rect") == 7


def test_a_chart_where_all_tie_is_drawn_too(call: Call, tmp_path: Path) -> None:
    write("a&b <i>")
    assert call("a&b <i>", "a&b <i>", "--chart", "chart.svg")[0] == 0
    assert "8 tasks tied" in ElementTree.tostring(ElementTree.parse(tmp_path / "chart.svg").getroot(), "unicode")


# -- refusals ------------------------------------------------------------------------------------------


def broken(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text, encoding="utf-8")


def row(**fields: Any) -> str:
    return json.dumps({"id": "1", "task": "t", "rouge_l": 1.0, "exact_match": 0.0, **fields})


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("scores.json", "{", "tuned/scores.json: broken JSON"),
        ("scores.json", "[]", "tuned/scores.json: no scores"),
        ("scores.json", '{"categories": {"X": {"metric": "bleu"}}}', "category X has metric bleu"),
        ("predictions.jsonl", "{}\nnot json", "tuned/predictions.jsonl, line"),
        ("predictions.jsonl", row(task=None), "line 1: no task"),
        ("predictions.jsonl", row(id=5), "line 1: no id"),
        ("predictions.jsonl", row(rouge_l="12"), 'line 1: rouge_l is "12", not a number'),
        ("predictions.jsonl", row(exact_match=float("nan")), "line 1: exact_match is NaN, not a number"),
        ("predictions.jsonl", row(exact_match=True), "line 1: exact_match is true, not a number"),
        ("predictions.jsonl", row(rouge_l=100.5), "line 1: rouge_l is 100.5, not between 0 and 100"),
        ("predictions.jsonl", "", "no instance in common"),
    ],
)
def test_a_fault_in_a_file_is_one_line_that_says_where(call: Call, name: str, text: str, said: str) -> None:
    write("initial")
    broken(write("tuned", 1.0), name, text)
    code, out, err = call("initial", "tuned", "--chart", "chart.svg")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err
    assert not Path("chart.svg").exists()


def test_a_folder_that_is_no_finished_evaluation_is_refused(call: Call) -> None:
    write("initial")
    (write("begun") / "scores.json").unlink()
    Path("empty").mkdir()
    for folder, said in (("nowhere", "nowhere is not there"), ("begun", "unfinished"), ("empty", "no evaluation")):
        code, out, err = call("initial", folder)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert said in err


def test_other_settings_are_refused_and_can_be_allowed(call: Call) -> None:
    write("initial"), write("tuned", 1.0, shots=2)
    code, _, err = call("initial", "tuned")
    assert (code, err.count("\n")) == (2, 1)
    assert "shots 0 against 2" in err
    code, out, _ = call("initial", "tuned", "--allow-different")
    assert code == 0
    assert "Not evaluated alike: shots 0 against 2" in " ".join(out.split())


@pytest.mark.parametrize("arguments", [("initial",), ("initial", "tuned", "--metric", "bleu"), ()])
def test_wrong_arguments_are_one_line(call: Call, arguments: tuple[str, ...]) -> None:
    write("initial"), write("tuned", 1.0)
    code, out, err = call(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)


def test_a_chart_that_cannot_be_written_is_one_line(call: Call) -> None:
    write("initial"), write("tuned", 1.0)
    code, out, err = call("initial", "tuned", "--chart", "nowhere/chart.svg")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "nowhere/chart.svg can't be written" in err
