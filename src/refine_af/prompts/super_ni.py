"""How Super-NaturalInstructions asks: the definition, two worked examples or none, and the input to complete.

The words and the way a long source is cut are those of Tk-Instruct (``src/ni_collator.py``).
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class Ruler(Protocol):
    """Measures and cuts a source in a model's tokens."""

    def count(self, text: str) -> int:
        """The tokens of the text, with those that the tokenizer puts around it."""
        ...

    def cut(self, text: str, tokens: int) -> str:
        """What is left of the text when all behind its first ``tokens`` is taken off."""
        ...


@dataclass(frozen=True, slots=True)
class Source:
    """What a model completes. ``shown``: the examples in it. ``is_cut``: whether its end is lost."""

    text: str
    shown: int
    is_cut: bool


def source(definition: str, examples: Sequence[tuple[str, str]], input: str, ruler: Ruler, longest: int) -> Source:
    """The text for one input, of ``longest`` tokens at most.

    An example that no longer fits is left out, and those behind it. What is too long even so loses its end, and with
    it the word "Output:", as in the official code.
    """
    opening = f"Definition: {_closed(definition)}\n\n"
    question = f"Now complete the following example -\nInput: {_closed(input)}\nOutput: "
    shown: list[str] = []
    for number, (given, wanted) in enumerate(examples, start=1):
        example = f" Positive Example {number} -\nInput: {_closed(given)}\n Output: {_closed(wanted)}\n\n"
        if ruler.count("".join([opening, *shown, example, question])) > longest:
            break
        shown.append(example)
    text = "".join([opening, *shown, question])
    is_cut = ruler.count(text) > longest
    return Source(ruler.cut(text, longest) if is_cut else text, len(shown), is_cut)


def _closed(text: str) -> str:
    """The text with a full stop, unless it ends in punctuation; behind nothing comes one too."""
    text = text.strip()
    return text if text.endswith(tuple(string.punctuation)) else f"{text}."
