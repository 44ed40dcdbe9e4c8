"""How likely a frozen model finds an output, and how much the task raises that likelihood."""

from __future__ import annotations

import math
from collections.abc import Sequence

from refine_af.engines.base import Engine
from refine_af.feedback.base import Better, Cost, Example
from refine_af.prompts.answers import asked
from refine_af.prompts.dialect import Frame

_SHRINKAGE = 8  # tokens


class LikelihoodScorer:
    """Log-probability of the output given instruction and input, in nats a token (at most 0)."""

    name = "likelihood"
    low, high = -math.inf, 0.0
    better: Better = "high"
    cost: Cost = "forward pass"

    def __init__(self, measure: TaskLikelihood) -> None:
        self._measure = measure
        self.identity: str | None = None

    def score(self, examples: Sequence[Example]) -> list[float]:
        return [given / max(1, n) for given, _, n in self._measure(examples)]


class MutualInformationScorer:
    """How much the task raises the output's likelihood: pointwise mutual information, over length + 8 tokens.

    An answer that would fit any task scores near 0, one that only this task calls for scores high. The 8 tokens more
    keep a word or two that echo the task from scoring higher than any real answer; their number is our own choice.
    """

    name = "pmi"
    low, high = -math.inf, math.inf
    better: Better = "high"
    cost: Cost = "forward pass"

    def __init__(self, measure: TaskLikelihood) -> None:
        self._measure = measure
        self.identity: str | None = None

    def score(self, examples: Sequence[Example]) -> list[float]:
        return [(given - alone) / (n + _SHRINKAGE) for given, alone, n in self._measure(examples)]


class TaskLikelihood:
    """Log-probability of each output with its task and without one, and its tokens; remembers the last batch, which
    the two scorers share."""

    def __init__(self, engine: Engine, frame: Frame) -> None:
        self._engine = engine
        self._frame = frame
        self._last: tuple[tuple[Example, ...], list[tuple[float, float, int]]] = ((), [])

    def __call__(self, examples: Sequence[Example]) -> list[tuple[float, float, int]]:
        key = tuple(examples)
        if self._last[0] != key:
            texts = [(self._frame.prompt(asked(e.instruction, e.input)), e.output) for e in examples]
            texts += [(self._frame.prompt(""), e.output) for e in examples]
            sums = self._engine.log_likelihoods(texts)
            pairs = zip(sums[: len(key)], sums[len(key) :], strict=True)
            self._last = (key, [(given, alone, n) for (given, n), (alone, _) in pairs])
        return self._last[1]
