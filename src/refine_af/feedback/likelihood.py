"""How likely a frozen model finds an output, and how much the task raises that likelihood."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from refine_af.engines.base import Engine, Floats, TokenScores
from refine_af.feedback.base import Better, Cost, Example
from refine_af.prompts.answers import asked
from refine_af.prompts.dialect import Frame

_SHRINKAGE = 8  # tokens


@dataclass(frozen=True, slots=True)
class Reading:
    """What the model finds of an output's tokens where it follows its task, and (n,) where it stands alone."""

    given: TokenScores
    alone: Floats

    @property
    def likelihood(self) -> float:
        """Log-probability given the task, in nats a token."""
        return float(self.given.log_probs.sum()) / max(1, len(self.given.log_probs))

    @property
    def pmi(self) -> float:
        """What the task adds to the log-probability, in nats, over length + 8 tokens."""
        gain = float(self.given.log_probs.sum() - self.alone.sum())
        return gain / (len(self.given.log_probs) + _SHRINKAGE)


class TaskLikelihood:
    """Reads outputs with a frozen model. It remembers the last batch, so that all scorers of one model share their
    forward passes."""

    def __init__(self, engine: Engine, frame: Frame) -> None:
        self._engine = engine
        self._frame = frame
        self._last: tuple[tuple[Example, ...], list[Reading]] = ((), [])

    def __call__(self, examples: Sequence[Example]) -> list[Reading]:
        key = tuple(examples)
        if self._last[0] != key:
            texts = [(self._frame.prompt(asked(e.instruction, e.input)), e.output) for e in examples]
            alone = dict.fromkeys(e.output for e in examples)  # candidates of an instruction are often the same
            given = self._engine.token_scores(texts)
            by_output = dict(zip(alone, self._engine.log_probs([("", output) for output in alone]), strict=True))
            self._last = (key, [Reading(s, by_output[e.output]) for e, s in zip(examples, given, strict=True)])
        return self._last[1]


class LikelihoodScorer:
    """Log-probability of the output given instruction and input, in nats a token (at most 0)."""

    name = "likelihood"
    low, high = -math.inf, 0.0
    better: Better = "high"
    cost: Cost = "forward pass"

    def __init__(self, measure: TaskLikelihood, identity: str | None = None) -> None:
        self.identity = identity
        self._measure = measure

    def score(self, examples: Sequence[Example]) -> list[float]:
        return [reading.likelihood for reading in self._measure(examples)]


class MutualInformationScorer:
    """How much the task raises the output's likelihood: pointwise mutual information, over length + 8 tokens.

    An answer that would fit any task scores near 0, one that only this task calls for scores high. The 8 tokens more
    keep a word or two that echo the task from scoring higher than any real answer; their number is our own choice.
    """

    name = "pmi"
    low, high = -math.inf, math.inf
    better: Better = "high"
    cost: Cost = "forward pass"

    def __init__(self, measure: TaskLikelihood, identity: str | None = None) -> None:
        self.identity = identity
        self._measure = measure

    def score(self, examples: Sequence[Example]) -> list[float]:
        return [reading.pmi for reading in self._measure(examples)]
