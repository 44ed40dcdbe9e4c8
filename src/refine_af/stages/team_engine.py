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

    groups: Sequence[Prompts]
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
        groups: Sequence[Prompts],
        sampling: SamplingConfig,
        *,
        seed: int,
        stop: Stop = NO_STOP,
        log_probs: bool = False,
    ) -> list[list[Completion]]:
        order = Write(groups, sampling, seed, stop, log_probs)
        self._team.tell(order)
        completed: list[dict[int, Completion]] = [{} for _ in groups]
        for rank, part in enumerate(write(self._engine, order, self._parts, self._team)):
            for of, places, some in zip(completed, _part(groups, rank, self._team.size), part, strict=True):
                of.update(zip(places, some, strict=True))
        return [[of[place] for place in range(len(of))] for of in completed]

    def answers(self, groups: Sequence[Sequence[str]], max_tokens: int, stop: Stop = NO_STOP) -> list[list[Completion]]:
        return self._engine.answers(groups, max_tokens, stop)

    def log_probs(self, texts: Sequence[tuple[str, str]]) -> list[Floats]:
        return self._engine.log_probs(texts)

    def token_scores(self, texts: Sequence[tuple[str, str]]) -> list[TokenScores]:
        return self._engine.token_scores(texts)


def write(engine: Engine, order: Write, parts: Parts, team: Team) -> list[list[list[Completion]]]:
    """Carries the order out, in every process at the same time; the leader is given all parts."""
    mine = [
        Prompts(group.prefix, tuple(group.suffixes[place] for place in places))
        for group, places in zip(order.groups, _part(order.groups, team.rank, team.size), strict=True)
    ]
    with team.sharing_cores(parts.threads):
        made = engine.generate(mine, order.sampling, seed=order.seed, stop=order.stop, log_probs=order.log_probs)
    return team.gather(made)


def _part(groups: Sequence[Prompts], rank: int, size: int) -> list[list[int]]:
    """Of each group the places of a process's prompts. Equal prompts, of whatever group, which differ by how many of
    them stood before, go to the same."""
    turns: dict[str, int] = {}
    parts = []
    for group in groups:
        mine = []
        for place, suffix in enumerate(group.suffixes):
            if turns.setdefault(group.prefix + suffix, len(turns)) % size == rank:
                mine.append(place)
        parts.append(mine)
    return parts


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
