"""Promises of decontamination: rows that repeat an evaluation's text are found, and short ones are no match."""

from __future__ import annotations

from refine_af.evaluation.decontaminate import Contamination, contaminated
from refine_af.evaluation.tasks import EvaluationInstance, EvaluationTask
from refine_af.language import Language

TASK = EvaluationTask(
    "t1",
    "",
    "Read the passage and find the pronoun for the given name.",
    (),
    (
        EvaluationInstance("1", "The old mill by the river burned down last winter", ("it",)),
        EvaluationInstance("2", "Yes", ("no",)),
    ),
)


def test_rows_that_repeat_a_definition_or_an_input_are_found_with_what_they_repeat() -> None:
    rows = [
        ("Name a colour", "Yes"),
        ("Read the passage, and find the pronoun for the given name!", ""),
        ("Sum up", "the old mill by the river burned down last year"),
    ]
    definition, input = contaminated(rows, [TASK])
    assert definition == Contamination(1, "definition", "t1", 1.0)
    assert (input.row, input.kind, input.task) == (2, "input", "t1")
    assert 0.7 < input.rouge_l < 1


def test_a_row_is_told_once_with_its_closest_match() -> None:
    row = ("Read the passage and find the name for the given pronoun", TASK.instances[0].input)
    assert contaminated([row], [TASK]) == [Contamination(0, "input", "t1", 1.0)]


def test_the_threshold_decides() -> None:
    row = ("the old mill by the lake burned down last year",)
    assert contaminated([row], [TASK], threshold=0.95) == []
    assert len(contaminated([row], [TASK], threshold=0.5)) == 1
    assert contaminated([row], []) == []


def test_rows_of_any_script_are_compared_by_their_own_words() -> None:
    inputs = ("去年冬天，河边的老磨坊被烧毁了。", "垃圾邮件")
    instances = tuple(EvaluationInstance(str(i), text, ("是",)) for i, text in enumerate(inputs))
    task = EvaluationTask("t1", "", "阅读这段话，然后找出代词。", (), instances)
    rows = [("用Python写一个函数", "垃圾邮件"), ("总结", "去年冬天河边的老磨坊烧毁了"), ("阅读这段话然后找出代词", "")]
    found = contaminated(rows, [task], language=Language("zh"))
    assert [(one.row, one.kind) for one in found] == [(1, "input"), (2, "definition")]
