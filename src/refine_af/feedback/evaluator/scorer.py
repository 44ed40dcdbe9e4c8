"""The trained evaluator as a scorer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

from refine_af.engines.base import Engine
from refine_af.feedback.base import Better, Cost, Example
from refine_af.feedback.embedding import Embedder
from refine_af.feedback.evaluator.features import features
from refine_af.feedback.evaluator.head import Head
from refine_af.feedback.evaluator.training import VERSION, trained_head
from refine_af.feedback.likelihood import TaskLikelihood
from refine_af.records import content_id


class QualityScorer:
    """How far a pair is on the side of people's and not of those spoilt by rule: unbounded, 0 is halfway.

    ``identity`` names the language model and how it is asked. The evaluator is trained when it is first needed.
    """

    name = "quality"
    low, high = -math.inf, math.inf
    better: Better = "high"
    cost: Cost = "forward pass"

    def __init__(
        self, pairs: Sequence[Example], engine: Engine, measure: TaskLikelihood, embedder: Embedder, identity: str
    ) -> None:
        taught = content_id(*(text for e in pairs for text in (e.instruction, e.input, e.output)))
        self.identity = f"{VERSION} {identity} {embedder.identity} taught by {taught}"
        self._pairs = pairs
        self._engine = engine
        self._measure = measure
        self._embedder = embedder

    @cached_property
    def head(self) -> Head:
        return trained_head(self._pairs, self._engine, self._measure, self._embedder, self.identity)

    def score(self, examples: Sequence[Example]) -> list[float]:
        if not examples:
            return []
        seen = features(examples, self._measure(examples), self._embedder)
        return [float(value) for value in self.head.score(seen)]
