"""What a stage's work is made of: completions to sample, tokens that go through a model, and work of a fixed kind."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Generation:
    """Completions to sample. Lengths are tokens; ``calls`` are rounds that wait for one another."""

    name: str
    completions: int
    prompt: float
    shared: bool  # whether the prompts begin with the same demonstrations
    mean_new: float
    max_new: int
    batch: int
    calls: int = 1

    @property
    def batches(self) -> int:
        return self.calls * math.ceil(self.completions / self.calls / self.batch)


@dataclass(frozen=True, slots=True)
class Pass:
    """Tokens that go through a model without being generated.

    ``kind``: "score" in the engine, "forward" in torch, "reward" by a reward model in float32, "gradient" with the way
    back and nothing learnt, "train" with both, "finetune" too, with activations that a GPU computes twice.
    ``parameters`` None: the config's own model.
    """

    name: str
    tokens: float
    kind: Literal["score", "forward", "reward", "gradient", "train", "finetune"]
    parameters: int | None = None


@dataclass(frozen=True, slots=True)
class Fixed:
    """Work whose time doesn't depend on tokens: ``times`` repetitions of something a machine knows by name."""

    name: str
    kind: str
    times: int = 1


Work = Generation | Pass | Fixed


@dataclass(frozen=True, slots=True)
class StageWork:
    """A stage in words and its pieces of work."""

    name: str
    words: str
    pieces: tuple[Work, ...] = ()
