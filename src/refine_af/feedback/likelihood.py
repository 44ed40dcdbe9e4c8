"""How likely a frozen model finds an output, and how much the task raises that likelihood."""

from __future__ import annotations

import math
from collections.abc import Sequence

from refine_af.engines.base import Engine
from refine_af.feedback.base import Example
from refine_af.prompts.answers import asked
from refine_af.prompts.dialect import Frame


class LikelihoodScorer:
    """Mean log-probability of the output's tokens given instruction and input, in nats a token (at most 0)."""

    name = "likelihood"
    low, high = -math.inf, 0.0

    def __init__(self, measure: TaskLikelihood) -> None:
        self._measure = measure

    def score(self, examples: Sequence[Example]) -> list[float]:
        return [given for given, _ in self._measure(examples)]


class MutualInformationScorer:
    """How many nats a token the task adds to the output's likelihood: pointwise mutual information over length.

    An answer that would fit any task scores near 0, one that only this task calls for scores high.
    """

    name = "pmi"
    low, high = -math.inf, math.inf

    def __init__(self, measure: TaskLikelihood) -> None:
        self._measure = measure

    def score(self, examples: Sequence[Example]) -> list[float]:
        return [given - alone for given, alone in self._measure(examples)]


class TaskLikelihood:
    """Mean log-probability of each output with its task and without one; remembers the last batch, which the two
    scorers share."""

    def __init__(self, engine: Engine, frame: Frame) -> None:
        self._engine = engine
        self._frame = frame
        self._last: tuple[tuple[Example, ...], list[tuple[float, float]]] = ((), [])

    def __call__(self, examples: Sequence[Example]) -> list[tuple[float, float]]:
        key = tuple(examples)
        if self._last[0] != key:
            texts = [(self._frame.prompt(asked(e.instruction, e.input)), e.output) for e in examples]
            texts += [(self._frame.prompt(""), e.output) for e in examples]
            means = [total / n if n else 0.0 for total, n in self._engine.log_likelihoods(texts)]
            self._last = (key, list(zip(means[: len(key)], means[len(key) :], strict=True)))
        return self._last[1]
