"""The same pair in other dress. Seeds are careful English, while tasks in the wild are lower-cased, tokenised, or
explained at length; what a pair is worth does not depend on it, and the evaluator learns so."""

from __future__ import annotations

import random
import re

from refine_af.feedback.base import Example

_SIGN = re.compile(r"(?<!\s)\s*([.,!?;:])(?=\s|$)")

_FRAMES = (
    "In this task you are given {what}. {task} Your answer should follow from what is given and nothing else.",
    "You will see {what}. What you have to do is the following. {task}",
    "Read {what} carefully. {task} There may be several right answers; one of them is enough.",
    "{task} Keep to the form that is asked for, and do not explain your answer unless you are asked to.",
    "This is a test of how well you follow instructions. {task} Make sure that your answer is correct and complete.",
)


def dressed(chance: random.Random, pair: Example) -> Example:
    """The pair in a style of chance; most often as it is."""
    style = chance.random()
    instruction, input, output = pair.instruction, pair.input, pair.output
    if style < 0.15:
        input, output = input.lower(), output.lower()
    elif style < 0.3:
        output = output.rstrip(".")
    elif style < 0.45:
        input, output = _SIGN.sub(r" \1", input.lower()), _SIGN.sub(r" \1", output.lower())
    if chance.random() < 0.3:
        what = "a text" if input else "an instruction"
        instruction = chance.choice(_FRAMES).format(what=what, task=instruction)
    return Example(instruction, input, output)
