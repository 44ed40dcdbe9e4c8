"""A reward as a weighted sum of scorers, with calibration, clipping and gates; what each one adds stays visible."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from refine_af.errors import UsageError
from refine_af.feedback.base import Example, Judgement, Scorer, checked_scores
from refine_af.feedback.memory import remembered
from refine_af.store import Store

# A score without bounds is taken to stay within ±10 when the lowest reward is computed.
_UNBOUNDED = 10.0
_BELOW_THE_WORST = 0.05


@dataclass(frozen=True, slots=True)
class Component:
    """A scorer with its weight. With ``mean`` and ``spread`` (of good pairs) its value becomes a standard score,
    clipped to ±``clip``; without them it enters as it is. ``label`` names it in place of the scorer's name."""

    scorer: Scorer
    weight: float
    mean: float = 0.0
    spread: float = 1.0
    clip: float = math.inf
    label: str = ""

    @property
    def name(self) -> str:
        return self.label or self.scorer.name

    def contribution(self, value: float) -> float:
        standard = (value - self.mean) / self.spread
        return self.weight * max(-self.clip, min(self.clip, standard))


@dataclass(frozen=True, slots=True)
class Gate:
    """A pair whose raw score is under ``minimum`` or over ``maximum`` gets at most ``cap`` as its reward, whatever else
    it scores. Without a cap it gets the floor."""

    scorer: Scorer
    minimum: float = -math.inf
    maximum: float = math.inf
    cap: float = -math.inf
    label: str = ""

    @property
    def name(self) -> str:
        return self.label or self.scorer.name

    def holds(self, value: float) -> bool:
        return self.minimum <= value <= self.maximum

    def condemns(self, value: float) -> bool:
        """Whether the pair is at the floor, whatever else it scores."""
        return self.cap == -math.inf and not self.holds(value)


class Composite:
    """reward = offset + Σ contribution of each component; at most the cap of each gate that fails; at least the floor.

    An output without a visible character gets the floor and is shown to no scorer: nothing can be worse. ``training``:
    weights that differ while a policy is trained, see :meth:`for_training`.
    """

    def __init__(
        self,
        name: str,
        components: Sequence[Component],
        *,
        floor: float,
        offset: float = 0.0,
        gates: Sequence[Gate] = (),
        training: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        if not any(component.weight for component in components):
            raise UsageError(f"feedback {name!r}: every weight is zero, so every pair would get the same reward")
        self.name = name
        self.floor = floor
        self.components = tuple(components)
        self.offset = offset
        self.gates = tuple(gates)
        self.training = training
        self._scorers: dict[str, Scorer] = {}
        parts: list[Component | Gate] = [*self.components, *self.gates]
        for part in parts:
            if self._scorers.setdefault(part.name, part.scorer) is not part.scorer:
                raise UsageError(f"feedback {name!r} has two scorers called {part.name!r}; give them different names")

    def judge(self, examples: Sequence[Example]) -> list[Judgement]:
        """A pair that a gate sends to the floor is shown to no component: it has the gates' scores alone.

        Raises RefineError where a scorer returns a number that isn't finite, or too few of them.
        """
        judgements = [Judgement(self.floor, {}, sound=False)] * len(examples)
        places = [i for i, example in enumerate(examples) if not is_empty(example.output)]
        gates = {gate.name: gate.scorer for gate in self.gates}
        found = self._values(gates, examples, places)
        condemned = {i for i in places if any(gate.condemns(found[i][gate.name]) for gate in self.gates)}
        for place in condemned:
            judgements[place] = Judgement(self.floor, found[place], sound=False)
        places = [i for i in places if i not in condemned]
        others = {name: scorer for name, scorer in self._scorers.items() if name not in gates}
        for place, values in self._values(others, examples, places).items():
            judgements[place] = self._judged(found[place] | values)
        return judgements

    @staticmethod
    def _values(
        scorers: Mapping[str, Scorer], examples: Sequence[Example], places: Sequence[int]
    ) -> dict[int, dict[str, float]]:
        """By place, what each scorer finds of the example there."""
        if not places:
            return {}
        asked = [examples[i] for i in places]
        columns = {name: checked_scores(scorer, asked, name) for name, scorer in scorers.items()}
        return {place: {name: column[row] for name, column in columns.items()} for row, place in enumerate(places)}

    def _judged(self, values: dict[str, float]) -> Judgement:
        values = {name: values[name] for name in self._scorers}
        shares = dict.fromkeys(values, 0.0)
        for component in self.components:
            shares[component.name] += component.contribution(values[component.name])
        reward = self.offset + sum(shares.values())
        failed = [gate for gate in self.gates if not gate.holds(values[gate.name])]
        reward = max(self.floor, min([reward, *(gate.cap for gate in failed)]))
        return Judgement(reward, values, shares, sound=not failed and reward > self.floor)

    @property
    def calibration(self) -> dict[str, tuple[float, float]]:
        """Component to the (mean, spread) against which its standard score is taken."""
        return {c.name: (c.mean, c.spread) for c in self.components}

    def with_calibration_of(self, store: Store) -> Composite:
        """The same reward with the calibration that a run keeps; one that has none yet keeps this one's."""
        known = store.calibrations()
        if not known:
            store.keep_calibrations(self.calibration)
        components = []
        for component in self.components:
            mean, spread = known.get(component.name, (component.mean, component.spread))
            components.append(replace(component, mean=mean, spread=spread))
        return self._made_of(components, self.gates)

    def remembering(self, store: Store) -> Composite:
        """The same reward, whose scorers ask a database first."""
        scorers = {name: remembered(scorer, store) for name, scorer in self._scorers.items()}
        components = [replace(c, scorer=scorers[c.name]) for c in self.components]
        gates = [replace(g, scorer=scorers[g.name]) for g in self.gates]
        return self._made_of(components, gates)

    def for_training(self) -> Composite:
        """What a policy is paid: the same components and gates, with the weights of ``training``.

        To choose the best of few pairs and to go on improving are different things: what a policy finds the easiest way
        to raise may be harmless where it chooses between what was written anyway.
        """
        weighted = [replace(c, weight=self.training.get(c.name, c.weight)) for c in self.components]
        return self._made_of(weighted, self.gates)

    def _made_of(self, components: Sequence[Component], gates: Sequence[Gate]) -> Composite:
        return Composite(
            self.name, components, floor=self.floor, offset=self.offset, gates=gates, training=self.training
        )


def is_empty(output: str) -> bool:
    """Whether there is nothing to see: no character at all, or white space and marks of no width alone."""
    return not any(ch.isprintable() and not ch.isspace() for ch in output)


def check_weights(
    feedback: str, weights: Mapping[str, float], names: Sequence[str], option: str = "feedback.weights"
) -> None:
    """Raises UsageError for a weight that belongs to none of ``names``, or that is not finite."""
    for name, weight in weights.items():
        if name not in names:
            raise UsageError(f"{option} names {name!r}, which {feedback} has not; known: {', '.join(names)}")
        if not math.isfinite(weight):
            raise UsageError(f"{option}.{name} must be a finite number, found {weight}")


def calibrated(scorer: Scorer, weight: float, good: Sequence[Example], clip: float = 2.0, label: str = "") -> Component:
    """A component whose standard score is taken against good pairs (the seeds): 0 is as good as a person's."""
    values = checked_scores(scorer, good, label)
    spread = statistics.pstdev(values)
    return Component(scorer, weight, statistics.fmean(values), spread if spread > 1e-9 else 1.0, clip, label)


def floor_below(components: Sequence[Component], offset: float = 0.0) -> float:
    """A floor 0.05 below the lowest reward that a pair can get: below, so that no policy gains by breaking the format,
    and close, so that one broken completion doesn't drown the differences between the others of a batch.

    A score without bounds counts as within ±10.
    """
    worst = offset
    for component in components:
        low, high = max(component.scorer.low, -_UNBOUNDED), min(component.scorer.high, _UNBOUNDED)
        worst += min(component.contribution(low), component.contribution(high))
    return worst - _BELOW_THE_WORST
