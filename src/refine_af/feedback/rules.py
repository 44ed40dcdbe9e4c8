"""Scorers that need no model: they count words, and close the cheap ways to a high likelihood."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from refine_af.feedback.base import Better, Cost, Example, Scorer
from refine_af.feedback.format import FormatScorer
from refine_af.language import ENGLISH, Language

__all__ = [
    "AddedWordsScorer",
    "Complement",
    "FormatScorer",
    "LengthScorer",
    "OwnWordsScorer",
    "SubstanceScorer",
    "VarietyScorer",
]

_LABEL = 4  # words: what is shorter may be a label


class LengthScorer:
    """The words of the output: what white space separates. Neither few nor many are good in themselves."""

    name = "length"
    low, high = 0.0, math.inf
    better: Better = "neither"
    cost: Cost = "rules"

    def __init__(self, language: Language = ENGLISH) -> None:
        self.identity = language.marked("1")
        self._language = language

    def score(self, examples: Sequence[Example]) -> list[float]:
        return [float(self._language.count(e.output)) for e in examples]


class VarietyScorer:
    """Different over all word trigrams of the output; a text that goes round in circles is near 0.

    Of fewer than six words, the different words over all words: "no no no" has but one trigram.
    """

    name = "variety"
    low, high = 0.0, 1.0
    better: Better = "high"
    cost: Cost = "rules"

    def __init__(self, language: Language = ENGLISH) -> None:
        self.identity = language.marked("1")
        self._language = language

    def score(self, examples: Sequence[Example]) -> list[float]:
        return [self._one(self._language.words(e.output)) for e in examples]

    @staticmethod
    def _one(words: list[str]) -> float:
        size = 3 if len(words) >= 6 else 1
        grams = [tuple(words[i : i + size]) for i in range(len(words) - size + 1)]
        return len(set(grams)) / len(grams) if grams else 1.0


class OwnWordsScorer:
    """One minus the share of the output's word bigrams that stand in the instruction or the input.

    Short outputs (labels, extracted names) are copies of the input by nature, so outputs of up to ``free`` words
    score 1, unless they are the whole input, or two or more words that the instruction says in a row: an echo.
    """

    name = "own_words"
    low, high = 0.0, 1.0
    better: Better = "high"
    cost: Cost = "rules"

    def __init__(self, free: int = 5, language: Language = ENGLISH) -> None:
        self.identity = language.marked(f"1 free={free}")
        self._free = free
        self._language = language

    def score(self, examples: Sequence[Example]) -> list[float]:
        return [self._one(e) for e in examples]

    def _one(self, example: Example) -> float:
        tokens = self._language.tokens
        words = tokens(example.output)
        if self._language.amount(words) <= self._free:
            echo = len(words) > 1 and f" {' '.join(words)} " in f" {' '.join(tokens(example.instruction))} "
            return 0.0 if echo or (words and words == tokens(example.input)) else 1.0
        source = tokens(example.prompt)
        seen = Counter(zip(source, source[1:]))  # noqa: B905 -- neighbours: one shorter on purpose
        grams = Counter(zip(words, words[1:]))  # noqa: B905
        copied = sum(min(count, seen[gram]) for gram, count in grams.items())
        return 1.0 - copied / (len(words) - 1) if len(words) > 1 else 1.0


class AddedWordsScorer:
    """The share of the output's different words that the instruction does not hold. Outputs under four words score 1:
    labels are named by instructions."""

    name = "added_words"
    low, high = 0.0, 1.0
    better: Better = "high"
    cost: Cost = "rules"

    def __init__(self, language: Language = ENGLISH) -> None:
        self.identity = language.marked("1")
        self._language = language

    def score(self, examples: Sequence[Example]) -> list[float]:
        return [self._one(e) for e in examples]

    def _one(self, example: Example) -> float:
        words = set(self._language.tokens(example.output))
        if self._language.count(example.output) < _LABEL:
            return 1.0
        return len(words - set(self._language.tokens(example.instruction))) / len(words) if words else 1.0


class SubstanceScorer:
    """1 where the output holds at least one word, 0 where it is empty or punctuation alone."""

    name = "substance"
    low, high = 0.0, 1.0
    better: Better = "high"
    cost: Cost = "rules"
    identity = "1"

    def score(self, examples: Sequence[Example]) -> list[float]:
        return [1.0 if any(ch.isalnum() for ch in e.output) else 0.0 for e in examples]


class Complement:
    """One minus another scorer's measure, under its own name: of variety it is repetition, of own words copying."""

    low, high = 0.0, 1.0
    better: Better = "low"
    cost: Cost = "rules"

    def __init__(self, name: str, of: Scorer) -> None:
        self.name = name
        self.identity = of.identity
        self._of = of

    def score(self, examples: Sequence[Example]) -> list[float]:
        return [1.0 - value for value in self._of.score(examples)]
