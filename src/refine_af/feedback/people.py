"""What people's pairs tell of an output: whether it is about as long as theirs for such instructions, and none of
theirs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from refine_af.feedback.base import Better, Cost, Example
from refine_af.feedback.embedding import Embedder, nearness
from refine_af.language import ENGLISH, Language
from refine_af.novelty import NoveltyIndex
from refine_af.records import content_id

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NEAREST = 8  # people's instructions, whose outputs say how long one should be
_FEWEST = 4  # words: shorter outputs are labels, names and numbers, which several tasks may have in common


class UnusualLengthScorer:
    """How far the output's length is from people's for the eight instructions most like its own: 0 within the range of
    their words, the fewest and the most left out; 1 for half of the fewest that is left or twice the most, 2 for a
    quarter or four times."""

    name = "unusual_length"
    low, high = 0.0, math.inf
    better: Better = "low"
    cost: Cost = "embedding"

    def __init__(self, embedder: Embedder, people: Sequence[Example], language: Language = ENGLISH) -> None:
        self._embedder = embedder
        self._people = tuple(people)
        self._language = language
        known = content_id(*(text for e in people for text in (e.instruction, e.output)))
        self.identity = language.marked(f"1 {known} {embedder.identity}")
        self._words = np.array([max(1, language.count(e.output)) for e in people])

    @cached_property
    def _near(self) -> Callable[[str], NDArray[np.float32]]:
        return nearness(self._embedder, [e.instruction for e in self._people])

    def score(self, examples: Sequence[Example]) -> list[float]:
        return [self._one(e) for e in examples]

    def _one(self, example: Example) -> float:
        cosines = self._near(example.instruction)
        usual = np.sort(self._words[np.argsort(-cosines, kind="stable")[:_NEAREST]])
        fewest, most = (usual[1], usual[-2]) if len(usual) > 2 else (usual[0], usual[-1])
        words = max(1, self._language.count(example.output))
        return max(0.0, math.log2(fewest / words), math.log2(words / most))


class BorrowedScorer:
    """ROUGE-L of the output and the people's output that is most like it, but for the pair's own instruction: 1 is a
    copy. Outputs under four words are nobody's."""

    name = "borrowed"
    low, high = 0.0, 1.0
    better: Better = "low"
    cost: Cost = "rules"

    def __init__(self, people: Sequence[Example], language: Language = ENGLISH) -> None:
        self._language = language
        self._own = {(e.instruction, e.output) for e in people}
        texts = sorted({e.output for e in people if language.count(e.output) >= _FEWEST})
        self.identity = language.marked(f"1 {content_id(*texts)}")
        self._index = NoveltyIndex(language=language)
        self._index.add_many(texts)

    def score(self, examples: Sequence[Example]) -> list[float]:
        return [self._one(e) for e in examples]

    def _one(self, example: Example) -> float:
        if self._language.count(example.output) < _FEWEST or (example.instruction, example.output) in self._own:
            return 0.0
        nearest = self._index.closest(example.output)
        return nearest[0] if nearest else 0.0
