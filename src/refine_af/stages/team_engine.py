"""Completions by all processes of a team: each takes its part of the prompts through its own copy of the model.

What a row draws depends on its text alone, so the parts give the completions that one process would have made, up to
rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from refine_af.config import SamplingConfig
from refine_af.engines.base import NO_STOP, Completion, Engine, Floats, Prompts, Stop, TokenScores
from refine_af.parts import Parts
from refine_af.team import Team


@dataclass(frozen=True, slots=True)
class Adopt:
    """An order to those that follow: write with an adapter, or with the untouched model, until something else is
    ordered."""

    adapter: Path | None


@dataclass(frozen=True, slots=True)
class Write:
    """An order: complete a part of the prompts."""

    prompts: Prompts
    sampling: SamplingConfig
    seed: int
    stop: Stop
    log_probs: bool


@dataclass(frozen=True, slots=True)
class Done:
    """An order: what was begun is at its end."""


class TeamEngine:
    """The leader's. What is asked of it but completions, it does alone."""

    def __init__(self, engine: Engine, parts: Parts, team: Team) -> None:
        self.name = engine.name
        self.model = engine.model
        self._engine = engine
        self._parts = parts
        self._team = team

    def generate(
        self,
        prompts: Prompts,
        sampling: SamplingConfig,
        *,
        seed: int,
        stop: Stop = NO_STOP,
        log_probs: bool = False,
    ) -> list[Completion]:
        order = Write(prompts, sampling, seed, stop, log_probs)
        self._team.tell(order)
        completed: list[Completion | None] = [None] * len(prompts.suffixes)
        made = write(self._engine, order, self._parts, self._team)
        for rank, some in enumerate(made):
            for place, one in zip(_part(prompts.suffixes, rank, self._team.size), some, strict=True):
                completed[place] = one
        return [one for one in completed if one is not None]

    def answers(self, groups: Sequence[Sequence[str]], max_tokens: int, stop: Stop = NO_STOP) -> list[list[Completion]]:
        return self._engine.answers(groups, max_tokens, stop)

    def log_probs(self, texts: Sequence[tuple[str, str]]) -> list[Floats]:
        return self._engine.log_probs(texts)

    def token_scores(self, texts: Sequence[tuple[str, str]]) -> list[TokenScores]:
        return self._engine.token_scores(texts)


def write(engine: Engine, order: Write, parts: Parts, team: Team) -> list[list[Completion]]:
    """Carries the order out, in every process at the same time; the leader is given all parts."""
    some = tuple(order.prompts.suffixes[i] for i in _part(order.prompts.suffixes, team.rank, team.size))
    made: list[Completion] = []
    if some:
        with team.sharing_cores(parts.threads):
            made = engine.generate(
                Prompts(order.prompts.prefix, some),
                order.sampling,
                seed=order.seed,
                stop=order.stop,
                log_probs=order.log_probs,
            )
    return team.gather(made)


def _part(suffixes: Sequence[str], rank: int, size: int) -> list[int]:
    """The places of a process's prompts. Equal ones, which differ by how many of them stood before, go to the same."""
    turns: dict[str, int] = {}
    for suffix in suffixes:
        turns.setdefault(suffix, len(turns))
    return [place for place, suffix in enumerate(suffixes) if turns[suffix] % size == rank]


def in_team(engine: Engine, parts: Parts, team: Team) -> Engine:
    """The engine itself where the leader is alone, or where completions depend on their batch (CTranslate2)."""
    return TeamEngine(engine, parts, team) if _writes_together(parts, team) else engine


@contextmanager
def adapted_engine(parts: Parts, team: Team, adapter: Path | None) -> Iterator[Engine]:
    """As :meth:`Parts.adapted_engine`, of the whole team."""
    together = _writes_together(parts, team)
    if together:
        team.tell(Adopt(adapter.resolve() if adapter else None))
    with parts.adapted_engine(adapter) as engine:
        yield in_team(engine, parts, team)
    if together:
        team.tell(Done())


def follow_writing(order: Adopt, parts: Parts, team: Team) -> None:
    with parts.adapted_engine(order.adapter) as engine:
        while isinstance(order := team.told(), Write):
            write(engine, order, parts, team)


def _writes_together(parts: Parts, team: Team) -> bool:
    return team.size > 1 and parts.engine_name == "transformers"
