"""The policy's trainer as a run makes it, in the process that leads and in those that follow it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from refine_af.config import Config
from refine_af.engines.base import Engine
from refine_af.errors import UsageError
from refine_af.parts import Parts
from refine_af.records import derived_seed
from refine_af.stages.held_out import STAGE
from refine_af.stages.team_engine import Done, Write, write
from refine_af.team import Team

if TYPE_CHECKING:
    from refine_af.rl.actor_critic import ActorCritic
    from refine_af.rl.responses import Trajectory
    from refine_af.rl.trainer import Trainer


@dataclass(frozen=True, slots=True)
class Begin:
    """An order to those that follow: make a trainer with a seed, and go on from a checkpoint where there is one."""

    checkpoint: Path | None
    seed: int


@dataclass(frozen=True, slots=True)
class Learn:
    """An order: an iteration's trajectories, the scores of its rollouts, and of which rollout each trajectory is.
    ``step_scale``: what guards left of the learning rate."""

    iteration: int
    trajectories: Sequence[Trajectory]
    scores: Sequence[float]
    owners: Sequence[int]
    step_scale: float


@contextmanager
def policy_trainer(parts: Parts, team: Team, seed: int) -> Iterator[Trainer]:
    """A trainer by ``parts.config.policy`` on ``parts.network``, while the context lasts; the same in every process."""
    from refine_af.rl.trainer import Trainer

    actor = make_actor(parts, seed)
    try:
        yield Trainer(actor, parts.config.policy, seed, team)
    finally:
        actor.release()


def make_actor(parts: Parts, seed: int) -> ActorCritic:
    """Policy, reference and critic, before any training. Raises UsageError for a model that can't be trained."""
    from refine_af.rl.actor_critic import ActorCritic

    config = parts.config
    return ActorCritic(
        parts.network,
        config.policy.lora,
        temperature=config.instances.sampling.temperature,
        label=parts.located.label,
        seed=derived_seed(seed, STAGE, "adapter"),
        checkpointing=config.policy.gradient_checkpointing,
        critic=config.policy.critic if config.policy.has_critic else None,
    )


def learn(trainer: Trainer, order: Learn, parts: Parts, team: Team) -> dict[str, float]:
    """Carries the order out, in every process at the same time; returns the iteration's figures."""
    trainer.step_scale = order.step_scale
    with team.sharing_cores(parts.threads):
        return trainer.iterate(order.iteration, order.trajectories, order.scores, order.owners)


def check_team(config: Config, team: Team) -> None:
    """Raises UsageError where the team is too large for every process to have a part."""
    if config.policy.trains and config.policy.minibatch < team.size:
        raise UsageError(
            f"policy.minibatch ({config.policy.minibatch}) gives {team.size} processes no rollout each; "
            "raise it or launch fewer"
        )


def follow_training(begin: Begin, parts: Parts, team: Team) -> None:
    """Until the leader is done with it."""
    with policy_trainer(parts, team, begin.seed) as trainer:
        if begin.checkpoint is not None:
            trainer.load(begin.checkpoint)
        engine: Engine | None = None
        while not isinstance(order := team.told(), Done):
            if isinstance(order, Write):
                engine = engine or parts.shared_engine(adapter=True)
                write(engine, order, parts, team)
            else:
                learn(trainer, order, parts, team)
                engine = None  # in int8 it holds the policy as it was
