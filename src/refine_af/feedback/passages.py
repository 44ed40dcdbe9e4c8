"""The longest passage that an output shares with its task, which tells an echo."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Literal

from refine_af.feedback.base import Better, Cost, Example
from refine_af.language import ENGLISH, Language

_COMPARED = 300  # words of each text: the cost grows with their square
_FEWEST = 3  # words: shorter outputs are labels, names and numbers, which a task may well hold


def longest_passage(one: Sequence[str], other: Sequence[str]) -> int:
    """The words of the longest passage that both texts have."""
    match = SequenceMatcher(None, one[:_COMPARED], other[:_COMPARED], autojunk=False)
    return match.find_longest_match().size


class EchoScorer:
    """How far the output is the instruction (or the input) again, in one piece: 0 to 1.

    2 · passage / (words of the output + words of the text): the whole text is 1, a third of it alone 0.5, and a text
    that was edited in its middle about 0.5 too. Outputs under three words are no echo.
    """

    low, high = 0.0, 1.0
    better: Better = "low"
    cost: Cost = "rules"

    def __init__(self, of: Literal["instruction", "input"], language: Language = ENGLISH) -> None:
        self.name = f"{of}_echo"
        self.identity = language.marked("1")
        self._of = of
        self._language = language

    def score(self, examples: Sequence[Example]) -> list[float]:
        tokens = self._language.tokens
        return [self._one(tokens(e.output), tokens(getattr(e, self._of))) for e in examples]

    def _one(self, output: list[str], source: list[str]) -> float:
        if self._language.amount(output) < _FEWEST or not source:
            return 0.0
        return 2 * longest_passage(output, source) / (min(len(output), _COMPARED) + min(len(source), _COMPARED))
