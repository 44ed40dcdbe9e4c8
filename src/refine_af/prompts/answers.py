"""How a model is asked to follow an instruction: the same words in fine-tuning and in evaluation."""

from __future__ import annotations

from typing import Literal

from refine_af.feedback.base import Example
from refine_af.prompts.dialect import Dialect, Frame

Cut = Literal["none", "first_line", "blank_line"]


def answer_frame(dialect: Dialect) -> Frame:
    """No demonstration and no system message of ours: the model as its users meet it."""
    return dialect.frame()


def scoring_frame(dialect: Dialect) -> Frame:
    """The task with nothing around it: the words in which outputs are scored, and not written, by a model."""
    return dialect.bare_frame()


def asked(instruction: str, input: str) -> str:
    """The task as a user would type it."""
    return Example(instruction, input, "").prompt


def cut_answer(text: str, rule: Cut) -> str:
    """The part of an answer that is scored. Scores depend on the rule, so it is printed with them."""
    text = text.strip()
    if rule == "first_line":
        return text.split("\n", 1)[0].strip()
    if rule == "blank_line":
        return text.split("\n\n", 1)[0].strip()
    return text
