"""What a reward is made of. A scorer measures one thing of examples; feedback joins scorers to a reward."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from refine_af.errors import RefineError

Better = Literal["high", "low", "neither"]
Cost = Literal["rules", "embedding", "forward pass", "request"]


@dataclass(frozen=True, slots=True)
class Example:
    """An instruction with the input-output pair that is to be judged."""

    instruction: str
    input: str
    output: str

    @property
    def prompt(self) -> str:
        """What a reader is asked: the instruction, and the input under it where there is one."""
        return f"{self.instruction}\n\n{self.input}" if self.input else self.instruction


@runtime_checkable
class Scorer(Protocol):
    """Measures one property of examples.

    ``low`` and ``high`` bound the values (infinite where there is no bound), ``better`` says which end a good pair is
    at, ``cost`` what a value takes. ``identity`` changes with the model's revision and with every setting that changes
    values: the same identity and the same example have the same value, so it need not be measured twice; None where
    that can't be promised.
    """

    name: str
    low: float
    high: float
    better: Better
    cost: Cost

    @property
    def identity(self) -> str | None: ...

    def score(self, examples: Sequence[Example]) -> list[float]:
        """One finite number an example, in their order, the same for any batching."""
        ...


_LARGEST = 1e9  # its square, summed over any batch, is far from float32's largest number


def checked_scores(scorer: Scorer, examples: Sequence[Example], name: str = "") -> list[float]:
    """The scorer's values, after a look at their number and finiteness; ``name`` is how the user calls the scorer.

    Raises RefineError, which names the scorer, for anything but one finite number an example, of a size to train with.
    """
    name = name or scorer.name
    scores = scorer.score(examples)
    try:
        values = [_number(score) for score in scores]
    except (TypeError, ValueError):
        raise RefineError(f"scorer {name!r} must return a list of numbers, returned {repr(scores)[:80]}") from None
    if len(values) != len(examples):
        raise RefineError(f"scorer {name!r} returned {len(values)} values for {len(examples)} examples")
    for value, score, example in zip(values, scores, examples, strict=True):
        if not math.isfinite(value):
            raise RefineError(
                f"scorer {name!r} returned {_shown(score)} for the output {example.output[:60]!r}; a score must be a "
                "finite number"
            )
        if abs(value) > _LARGEST:
            raise RefineError(
                f"scorer {name!r} returned {score} for the output {example.output[:60]!r}: training overflows beyond "
                f"{_LARGEST:g}; give rewards on a smaller scale"
            )
    return values


def _number(score: Any) -> float:
    try:
        return math.nan if score is None else float(score)
    except OverflowError:  # Python's own integers have no end
        return math.inf


def _shown(score: Any) -> str:
    return f"a number of {score.bit_length()} bits" if isinstance(score, int) else str(score)


@dataclass(frozen=True, slots=True)
class Judgement:
    """A reward and the components that it was made of, as the scorers gave them.

    ``shares`` says what each component added to the reward, before gates and floor: weight × standard score. A pair
    that is not ``sound`` is at the floor, or failed a gate: whatever its reward, it is nothing to learn from.
    """

    reward: float
    components: dict[str, float]
    shares: dict[str, float] = field(default_factory=dict)
    sound: bool = True


class Feedback(Protocol):
    """Turns examples into rewards. ``floor`` is the reward of a completion that is no pair at all."""

    name: str
    floor: float

    def judge(self, examples: Sequence[Example]) -> list[Judgement]: ...
