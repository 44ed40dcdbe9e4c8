"""How a model is asked to follow an instruction: the same words where pairs are written, in fine-tuning and in
evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from refine_af.engines.base import Stop
from refine_af.feedback.base import Example
from refine_af.prompts.dialect import Dialect, Frame
from refine_af.records import SeedTask
from refine_af.thoughts import without_thoughts

Cut = Literal["none", "first_line", "blank_line"]
_SEPARATORS: dict[Cut, str] = {"none": "", "first_line": "\n", "blank_line": "\n\n"}


def answer_frame(dialect: Dialect, demonstrations: Sequence[SeedTask] = (), system: str = "") -> Frame:
    """The model as its users meet it; where pairs are written, behind demonstrations or a system message."""
    return dialect.frame(system=system, turns=[(asked(d.instruction, d.input), d.output) for d in demonstrations])


def scoring_frame(dialect: Dialect) -> Frame:
    """The task with nothing around it: the words in which outputs are scored, and not written, by a model."""
    return dialect.bare_frame()


def asked(instruction: str, input: str) -> str:
    """The task as a user would type it."""
    return Example(instruction, input, "").prompt


def cut_answer(text: str, rule: Cut) -> str:
    """The part of an answer that is scored, behind thoughts. Scores depend on the rule, so it is printed with them."""
    return scored_part(rule).cut(without_thoughts(text)[0].strip())[0].strip()


def scored_part(rule: Cut, *strings: str) -> Stop:
    """Where generation may end, since what follows is cut off anyway; ``strings`` end an answer beside the rule."""
    return Stop(strings, _SEPARATORS[rule])
