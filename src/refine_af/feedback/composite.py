"""A reward as a weighted sum of scorers, with calibration, clipping and gates; each component stays visible."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from refine_af.errors import RefineError, UsageError
from refine_af.feedback.base import Example, Judgement, Scorer


@dataclass(frozen=True, slots=True)
class Component:
    """A scorer with its weight. With ``mean`` and ``spread`` (of good pairs) its value becomes a standard score,
    clipped to ±``clip``; without them it enters as it is."""

    scorer: Scorer
    weight: float
    mean: float = 0.0
    spread: float = 1.0
    clip: float = math.inf

    def contribution(self, value: float) -> float:
        standard = (value - self.mean) / self.spread
        return self.weight * max(-self.clip, min(self.clip, standard))


@dataclass(frozen=True, slots=True)
class Gate:
    """A pair whose score is under ``minimum`` gets the floor as its reward, whatever else it scores."""

    scorer: Scorer
    minimum: float


class Composite:
    """reward = offset + Σ contribution of each component, or the floor where a gate fails."""

    def __init__(
        self,
        name: str,
        components: Sequence[Component],
        *,
        floor: float,
        offset: float = 0.0,
        gates: Sequence[Gate] = (),
    ) -> None:
        if not any(component.weight for component in components):
            raise UsageError(f"feedback {name!r}: every weight is zero, so every pair would get the same reward")
        self.name = name
        self.floor = floor
        self._components = tuple(components)
        self._offset = offset
        self._gates = tuple(gates)

    def judge(self, examples: Sequence[Example]) -> list[Judgement]:
        """Raises RefineError where a scorer returns a number that isn't finite, or too few of them."""
        if not examples:
            return []
        columns = {c.scorer.name: checked_scores(c.scorer, examples) for c in self._components}
        for gate in self._gates:
            if gate.scorer.name not in columns:
                columns[gate.scorer.name] = checked_scores(gate.scorer, examples)
        judgements = []
        for i in range(len(examples)):
            values = {name: column[i] for name, column in columns.items()}
            if any(values[gate.scorer.name] < gate.minimum for gate in self._gates):
                reward = self.floor
            else:
                total = sum(c.contribution(values[c.scorer.name]) for c in self._components)
                reward = max(self.floor, self._offset + total)
            judgements.append(Judgement(reward, values))
        return judgements


def check_weights(feedback: str, weights: Mapping[str, float], names: Sequence[str]) -> None:
    """Raises UsageError for a weight that belongs to none of ``names``, or that is not finite."""
    for name, weight in weights.items():
        if name not in names:
            raise UsageError(f"feedback.weights names {name!r}, which {feedback} has not; known: {', '.join(names)}")
        if not math.isfinite(weight):
            raise UsageError(f"feedback.weights.{name} must be a finite number, found {weight}")


def checked_scores(scorer: Scorer, examples: Sequence[Example]) -> list[float]:
    """The scorer's values, after a look at their number and finiteness."""
    scores = scorer.score(examples)
    if scores is None or any(v is None for v in scores):
        raise RefineError(f"scorer {scorer.name!r} returned None in place of a number")
    values = [float(v) for v in scores]
    if len(values) != len(examples):
        raise RefineError(f"scorer {scorer.name!r} returned {len(values)} values for {len(examples)} examples")
    for value, example in zip(values, examples, strict=True):
        if not math.isfinite(value):
            raise RefineError(f"scorer {scorer.name!r} returned {value} for the output {example.output[:60]!r}")
    return values


def calibrated(scorer: Scorer, weight: float, good: Sequence[Example], clip: float = 2.0) -> Component:
    """A component whose standard score is taken against good pairs (the seeds): 0 is as good as a person's."""
    values = checked_scores(scorer, good)
    spread = statistics.pstdev(values)
    return Component(scorer, weight, statistics.fmean(values), spread if spread > 1e-9 else 1.0, clip)
