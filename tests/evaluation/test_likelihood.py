"""Promises of the references' likelihood: figures that a plain forward pass has too, a margin that style can't move,
questions whose references differ, and a comparison of the same texts alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refine_af.config import Config
from refine_af.errors import UsageError
from refine_af.evaluation.comparison_likelihood import Likelihoods, compare_likelihoods, read_likelihoods
from refine_af.evaluation.likelihood import Figures, Questions, figures, margins, questions_of, summary
from refine_af.evaluation.subject import LetterRuler
from refine_af.evaluation.tasks import EvaluationInstance, EvaluationTask
from refine_af.parts import Parts

TASKS = [
    Questions(
        "places", ("Name a river.", "Name a market.", "Name a school."), ("the long river", "market", "a school")
    ),
    Questions("verbs", ("Write", "Tell"), ("Write", "Tell the story")),
    Questions("one", ("Name a city.",), ("the city",)),
]


@pytest.mark.parametrize("questions", TASKS, ids=lambda one: one.task)
def test_figures_are_those_of_a_plain_forward_pass(tiny_config: Config, tmp_path: Path, questions: Questions) -> None:
    import torch

    parts = Parts(tiny_config, tmp_path)
    tokenizer, network = parts.tokenizer, parts.network

    def read(prompt: str, reference: str) -> tuple[float, int, float]:
        """Log-probability of the reference, its tokens, log-probability of the end token behind it."""
        before, after = (tokenizer.encode(text, add_special_tokens=False) for text in (prompt, reference))
        with torch.no_grad():
            found = network(torch.tensor([before + after])).logits[0].log_softmax(-1)
        places = range(len(before) - 1, len(before) + len(after) - 1)
        total = sum(float(found[place, token]) for place, token in zip(places, after, strict=True))
        return total, len(after), float(found[-1, tokenizer.eos_token_id])

    with parts.adapted_engine(None) as engine:
        found = figures(engine.token_scores(list(questions.texts())))
    k = len(questions.sources)
    rows = [[read(prompt, reference) for reference in questions.references] for prompt in questions.sources]
    own = [rows[i][i] for i in range(k)]
    assert found.content == pytest.approx(np.mean([total / count for total, count, _ in own]), abs=1e-4)
    assert found.end == pytest.approx(np.mean([end for _, _, end in own]), abs=1e-4)
    assert found.loss == pytest.approx(-np.mean([(total + end) / (count + 1) for total, count, end in own]), abs=1e-4)
    if k == 1:
        assert found.margin is None
        return
    totals = np.array([[total for total, _, _ in row] for row in rows])
    centred = np.array(
        [[totals[i, j] - totals[i].mean() - totals[:, j].mean() + totals.mean() for j in range(k)] for i in range(k)]
    )
    plain = [centred[i, i] - np.mean([centred[i, j] for j in range(k) if j != i]) for i in range(k)]
    assert found.margin == pytest.approx(np.mean(plain), abs=1e-4)


@given(
    st.integers(2, 6).flatmap(
        lambda k: st.tuples(*(st.lists(st.floats(-50, 50), min_size=k, max_size=k) for _ in range(2)))
    ),
    st.floats(-9, 9),
)
def test_margins_are_what_stands_on_the_diagonal_whatever_rows_and_columns_add(
    added: tuple[list[float], list[float]], margin: float
) -> None:
    rows, columns = np.array(added[0]), np.array(added[1])
    totals = rows[:, None] + columns + margin * np.eye(len(rows))
    assert margins(totals) == pytest.approx(np.full(len(rows), margin), abs=1e-9)


def task(name: str, *references: str) -> EvaluationTask:
    rows = (EvaluationInstance(f"{name}-{n}", f"input {n}", (text,)) for n, text in enumerate(references))
    return EvaluationTask(name, "", "Do it", (("a", "b"),), tuple(rows))


def test_questions_are_the_first_instances_whose_references_differ_and_fit() -> None:
    tasks = [task("a", "yes", "no", "yes ", "y" * 41, "perhaps", "never"), task("b", "z" * 41), task("c", "one")]
    found = questions_of(tasks, 3, 0, 1024, 10, LetterRuler())
    assert [(one.task, one.references) for one in found] == [("a", ("yes", "no", "perhaps")), ("c", ("one",))]
    assert ["input 0" in found[0].sources[0], "input 4" in found[0].sources[2]] == [True, True]
    assert "Positive Example" in questions_of(tasks, 3, 1, 1024, 10, LetterRuler())[0].sources[0]


def test_a_summary_tells_apart_what_was_scored() -> None:
    found = {one.task: Figures(-1.0, None if one.task == "one" else 2.0, -3.0, 4.0) for one in TASKS}
    made = summary(TASKS, found)
    assert (made["content"], made["margin"], made["end"], made["loss"], made["without_margin"]) == (-1, 2, -3, 4, 1)
    other = [Questions(TASKS[0].task, TASKS[0].sources, ("another", *TASKS[0].references[1:])), *TASKS[1:]]
    assert summary(other, found)["questions"] != made["questions"]
    read = read_likelihoods("scores.json", made)
    assert read is not None
    assert read.tasks["one"] == {"content": -1.0, "end": -3.0, "loss": 4.0}


def likelihoods(loss: float = 3.0, **contents: float) -> Likelihoods:
    return Likelihoods("q", {name: {"content": value, "end": -1.0, "loss": loss} for name, value in contents.items()})


def test_a_task_is_won_by_more_content_and_by_less_loss() -> None:
    content, end, loss = compare_likelihoods(
        likelihoods(a=-2.0, b=-2.0, c=-2.0), likelihoods(2.5, a=-1.0, b=-1.5, c=-3.0)
    )
    assert (content.figure, content.wins, content.losses, content.tasks) == ("content", 2, 1, 3)
    assert content.difference == pytest.approx(0.5 / 3)
    assert (end.figure, end.wins, end.losses, end.difference) == ("end", 0, 0, 0.0)
    assert (loss.figure, loss.wins, loss.losses, loss.difference) == ("loss", 3, 0, -0.5)
    assert content.interval[0] <= content.difference <= content.interval[1]


def test_the_likelihoods_of_other_texts_are_not_compared() -> None:
    with pytest.raises(ValueError, match="of different texts"):
        compare_likelihoods(likelihoods(a=-1.0), Likelihoods("other", likelihoods(a=-1.0).tasks))


@pytest.mark.parametrize(
    "found",
    [
        [],
        {"questions": 1, "tasks": {}},
        {"questions": "q", "tasks": {}},
        {"questions": "q", "tasks": {"a": {"content": -1.0, "end": -1.0}}},
        {"questions": "q", "tasks": {"a": {"content": -1.0, "end": float("nan"), "loss": 1.0}}},
        {"questions": "q", "tasks": {"a": {"content": -1.0, "end": True, "loss": 1.0}}},
    ],
)
def test_what_evaluate_does_not_write_is_refused_in_one_line(found: object) -> None:
    with pytest.raises(UsageError, match=r"scores\.json: no likelihoods as evaluate writes them; evaluate again"):
        read_likelihoods("scores.json", found)
