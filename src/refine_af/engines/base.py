"""What a stage asks of a generator: prompts in, completions out, the same for the same batch and seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from refine_af.config import SamplingConfig

Floats = npt.NDArray[np.float32]
Token = TypeVar("Token", int, str)


@dataclass(frozen=True, slots=True)
class Prompts:
    """Prompts that begin alike: ``prefix`` (computed once where the engine can) and what follows it."""

    prefix: str
    suffixes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Completion:
    """What was sampled. ``token_ids`` holds the end token where there was one, of the model's that which was written;
    ``text`` never does.

    ``ended`` is False for a completion that was cut by its length. ``log_probs`` are what the engine found of each
    token at temperature 1, in nats, with nothing cut from the distribution; None where they were not asked for.
    """

    text: str
    token_ids: tuple[int, ...]
    ended: bool
    log_probs: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class TokenScores:
    """What a model finds of a continuation of n tokens: log-probabilities in nats, each after what stands before it.

    ``log_probs`` (n,): of the tokens. ``ends`` (n + 1,): of the model's end tokens together in each one's place, and
    behind the last.
    """

    log_probs: Floats
    ends: Floats


@dataclass(frozen=True, slots=True)
class Stop:
    """What ends a completion before its length does: one of ``strings`` anywhere, or ``after_text``, a string that
    counts once something other than white space stands before it."""

    strings: tuple[str, ...] = ()
    after_text: str = ""

    def __bool__(self) -> bool:
        return bool(self.strings or self.after_text)

    def cut(self, text: str) -> tuple[str, bool]:
        """The text before what ends it, and whether there is such."""
        places = [text.find(s) for s in self.strings]
        if self.after_text:
            places.append(text.find(self.after_text, len(text) - len(text.lstrip())))
        found = [place for place in places if place >= 0]
        return (text[: min(found)], True) if found else (text, False)

    @property
    def last_letters(self) -> frozenset[str]:
        """The characters with which what ends a completion can end itself."""
        return frozenset(s[-1] for s in (*self.strings, self.after_text) if s)


NO_STOP = Stop()


# Of an engine's batches, in what is asked of it at once: rows that end make place for others, so that few steps have a
# handful of rows, and several processes have work.
BATCHES_AT_ONCE = 4


class Engine(Protocol):
    """Generates with one model. ``model`` names it in the rows."""

    name: str
    model: str

    def generate(
        self,
        groups: Sequence[Prompts],
        sampling: SamplingConfig,
        *,
        seed: int,
        stop: Stop = NO_STOP,
        log_probs: bool = False,
    ) -> list[list[Completion]]:
        """Of each group of prompts, in order, one completion a prompt, in order; each ends where ``stop`` says, and is
        cut before it. A group's prefix is computed once where the engine can, and rows of all groups are decoded
        together where it can.

        The result is a function of the arguments and the weights. By rounding, or by how an engine draws, it may depend
        on the batch: repeat whole batches.
        """
        ...

    def answers(self, groups: Sequence[Sequence[str]], max_tokens: int, stop: Stop = NO_STOP) -> list[list[Completion]]:
        """Greedy completions of groups of prompts, in order. What a group's prompts begin with is computed once.

        Raises ValueError for an empty prompt.
        """
        ...

    def log_probs(self, texts: Sequence[tuple[str, str]]) -> list[Floats]:
        """For each (context, continuation): (n,), the log-probability of each token of the continuation, in nats."""
        ...

    def token_scores(self, texts: Sequence[tuple[str, str]]) -> list[TokenScores]:
        """The same, with how likely an end would have been in each token's place."""
        ...


def common_beginning(rows: Sequence[list[Token]]) -> int:
    """How many tokens all rows begin with; each keeps one of its own at least, which a network needs to go on from.

    Found in the tokens of whole texts, since a text cut in two may have others where it was cut.
    """
    first, last = min(rows), max(rows)  # what these two share, all that are sorted between them share
    most = min(map(len, rows)) - 1
    return next((i for i in range(most) if first[i] != last[i]), most)
