"""What a stage asks of a generator: prompts in, completions out, the same for the same batch and seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from refine_af.config import SamplingConfig

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Prompts:
    """A batch of prompts that begin alike: ``prefix`` (computed once where the engine can) and what follows it."""

    prefix: str
    suffixes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Completion:
    """What was sampled. ``token_ids`` holds the end token where there was one; ``text`` never does.

    ``ended`` is False for a completion that was cut by its length. ``log_probs`` are what the engine found of each
    token at temperature 1, in nats, with nothing cut from the distribution; None where they were not asked for.
    """

    text: str
    token_ids: tuple[int, ...]
    ended: bool
    log_probs: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class TokenScores:
    """What a model finds of a continuation of n tokens, all in nats, each after what stands before it.

    ``log_probs`` (n,): of the tokens. ``ends`` (n + 1,): of the end token in each token's place, and behind the last.
    """

    log_probs: Floats
    ends: Floats


class Engine(Protocol):
    """Generates with one model. ``model`` names it in the rows."""

    name: str
    model: str

    def generate(
        self,
        prompts: Prompts,
        sampling: SamplingConfig,
        *,
        seed: int,
        stop: Sequence[str] = (),
        log_probs: bool = False,
    ) -> list[Completion]:
        """One completion a prompt, in order; each is cut before the first of the ``stop`` strings.

        The result is a function of the arguments and the weights. It may depend on the batch: repeat whole batches.
        """
        ...

    def log_likelihoods(self, texts: Sequence[tuple[str, str]]) -> list[tuple[float, int]]:
        """For each (context, continuation): the continuation's log-probability in nats, and its tokens."""
        ...

    def token_scores(self, texts: Sequence[tuple[str, str]]) -> list[TokenScores]:
        """The same token by token, with what the model thinks of ending there."""
        ...


def cut_at_stop(text: str, stop: Sequence[str]) -> tuple[str, bool]:
    """The text before the first stop string, and whether there was one."""
    places = [place for place in (text.find(s) for s in stop) if place >= 0]
    return (text[: min(places)], True) if places else (text, False)
