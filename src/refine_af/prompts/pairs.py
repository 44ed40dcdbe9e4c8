"""How an input-output pair is asked for, a turn at a time, and how a turn is read.

A task that needs an input has it written first, behind seed tasks with theirs; then its answer is asked for as
:mod:`refine_af.prompts.answers` does. Classification with an input is written label first, so that labels are
balanced: the label, then an input that has it. Inputs and labels are plain text for every model, since what a chat
template asks for is an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from refine_af.prompts.answers import answer_frame, asked
from refine_af.prompts.dialect import Dialect, Frame
from refine_af.records import SeedTask
from refine_af.thoughts import without_thoughts

# What a turn writes, of a task that needs no input ("answer"), of one that needs one, and label first.
Turn = Literal["answer", "input", "answer to input", "label", "input of label"]
INPUTS: tuple[Turn, ...] = ("input", "input of label")
ANSWERS: tuple[Turn, ...] = ("answer", "answer to input")

_OPENINGS: dict[Turn, str] = {
    "input": "For each task, an input that it can be done with.",
    "label": "For each task, one of the labels that it can be answered with.",
    "input of label": "For each task and label, an input that is answered with this label.",
}


@dataclass(frozen=True, slots=True)
class Pair:
    input: str
    output: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A completion in which nothing can be read, and why."""

    reason: str
    detail: str = ""


def turns_of(*, needs_input: bool, is_classification: bool) -> tuple[Turn, ...]:
    """The turns in which a pair is written, in their order."""
    if not needs_input:
        return ("answer",)
    return ("label", "input of label") if is_classification else ("input", "answer to input")


def shows(turn: Turn, task: SeedTask) -> bool:
    """Whether a seed task is of the kind that a turn's demonstrations are."""
    if turn == "answer":
        return not task.input
    label_first = turn in ("label", "input of label")
    return bool(task.input) and (turn == "input" or task.is_classification == label_first)


def turn_frame(dialect: Dialect, turn: Turn, demonstrations: Sequence[SeedTask], system: str = "") -> Frame:
    """The frame into which a turn's task (see :func:`turn_task`) is put; ``system`` says how to answer."""
    if turn in ANSWERS:
        return answer_frame(dialect, demonstrations, system)
    wanted = "Label" if turn == "label" else "Input"
    shown = "".join(
        f"### Task\n{turn_task(turn, d.instruction, label=d.output)}\n\n"
        f"### {wanted}\n{d.output if turn == 'label' else d.input}\n\n"
        for d in demonstrations
    )
    before = f"{dialect.beginning}{_OPENINGS[turn]}\n\n{shown}### Task\n"
    return Frame(before, f"\n\n### {wanted}\n", ("\n###",))


def turn_task(turn: Turn, instruction: str, *, input: str = "", label: str = "") -> str:
    """What a turn is asked with: the instruction, and what was written for it before."""
    if turn == "answer to input":
        return asked(instruction, input)
    return f"{instruction}\n\n### Label\n{label}" if turn == "input of label" else instruction


def read_turn(turn: Turn, text: str, *, ended: bool) -> str | Unreadable:
    """What a turn's completion says, behind thoughts; there are no headings in it to look for."""
    what = {"answer": "output", "answer to input": "output", "label": "output"}.get(turn, "input")
    if not ended:
        return Unreadable("cut by length", what)
    return without_thoughts(text)[0].strip() or Unreadable(f"empty {what}")
