"""Trains a LoRA policy on scores of what it wrote, one iteration at a time, by the algorithm that ``policy.algorithm``
names.

Left out of the textbooks: an entropy bonus, several environments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

import torch
from torch import Tensor

from refine_af.config import PolicyConfig
from refine_af.errors import NotFiniteError
from refine_af.records import derived_random
from refine_af.rl.actor_critic import ActorCritic, Evaluation
from refine_af.rl.algorithms import Part, Taken, algorithm_of
from refine_af.rl.estimators import (
    explained_variance,
    low_variance_kl,
    masked_mean,
    next_kl_coefficient,
    value_loss,
)
from refine_af.rl.responses import Trajectory
from refine_af.team import Team

_FILE = "trainer.pt"


@dataclass(frozen=True, slots=True)
class Experience:
    """What an iteration learns from: trajectories, and per-token tensors (B, T) taken before the first step."""

    trajectories: Sequence[Trajectory]
    taken: Taken
    advantages: Tensor
    returns: Tensor
    weights: Tensor  # of importance; 1 where the engine didn't say what it sampled from
    ahead: Evaluation | None  # of this process's part of the first minibatch, with its graph


class Trainer:
    """Holds what changes from iteration to iteration: adapter, critic, optimiser, KL weight, step size.

    In a team every process holds the same of all this. Each takes its part of every batch through the network, and what
    comes of it is added up, so that all make the same step: that of one process, up to rounding.
    """

    def __init__(self, actor: ActorCritic, config: PolicyConfig, seed: int, team: Team | None = None) -> None:
        self.actor = actor
        self._team = team or Team()
        self.kl_coefficient = config.kl_coefficient
        self.step_scale = 1.0  # what guards have left of the adapter's learning rate
        self._algorithm = algorithm_of(config)
        self._config = config
        self._seed = seed
        self._units = (0.0, 1.0)  # the return that a value of 0 means, and what a value of 1 is more
        self._adapter = actor.adapter_parameters()
        critic, head = list(actor.critic_adapter().values()), list(actor.value_head.parameters())
        self._critic = [*critic, *head]
        groups = [(self._adapter, config.learning_rate), (head, config.value_learning_rate)]
        groups += [(critic, config.learning_rate)]
        self._optimizer = torch.optim.AdamW(
            [{"params": parameters, "lr": rate} for parameters, rate in groups if parameters], weight_decay=0.0
        )

    def iterate(
        self,
        iteration: int,
        trajectories: Sequence[Trajectory],
        scores: Sequence[float],
        owners: Sequence[int] | None = None,
    ) -> dict[str, float]:
        """Learns from rollouts; returns the iteration's figures. ``iteration`` counts from 1.

        ``scores`` are those of rollouts, those of one group side by side. ``owners`` says of which of them each
        trajectory is, for a rollout may have several, or none; without it each has one.
        """
        if iteration == 1:
            # A critic that starts at the mean score, in units of their spread, need not first learn the reward's scale.
            spread = pstdev(scores)
            self._units = (fmean(scores), spread if spread > 1e-6 else 1.0)
        self._optimizer.param_groups[0]["lr"] = self._config.learning_rate * self.step_scale
        epochs = [self._minibatches(trajectories, iteration, epoch) for epoch in range(self._config.epochs)]
        places = torch.arange(len(trajectories)) if owners is None else torch.tensor(owners)
        experience, figures = self._collect(
            trajectories, torch.tensor(scores, dtype=torch.float32), places, epochs[0][0], untrained=iteration == 1
        )
        figures |= self._learn(experience, [minibatch for epoch in epochs for minibatch in epoch])
        if self._algorithm.adapts_kl:
            self.kl_coefficient = next_kl_coefficient(self.kl_coefficient, figures["kl"], self._config.kl_target)
        return figures

    def _minibatches(self, trajectories: Sequence[Trajectory], iteration: int, epoch: int) -> list[Sequence[int]]:
        """Places in random order, each once. Rows of one prefix stand together as far as they fill minibatches: a step
        computes every prefix in it forwards and backwards, which for few rows is as dear as the rows."""
        random = derived_random(self._seed, "minibatches", iteration, epoch)
        order = list(range(len(trajectories)))
        random.shuffle(order)
        order.sort(key=lambda i: trajectories[i].prefix_ids)
        minibatches = _chunks(order, self._config.minibatch)
        random.shuffle(minibatches)
        return minibatches

    def _collect(
        self,
        trajectories: Sequence[Trajectory],
        scores: Tensor,
        owners: Tensor,
        first: Sequence[int],
        *,
        untrained: bool,
    ) -> tuple[Experience, dict[str, float]]:
        """Old log-probabilities, values and the reference's, all by the network that will be trained: an engine's own
        log-probabilities are those of other kernels or a lower precision, and ρ would not be 1 before the first step
        (recomputed since TRL's and OpenRLHF's PPO). ``untrained``: the policy is the reference still."""
        size, team = self._config.micro_batch, self._team
        lengths = [len(t.response_ids) for t in trajectories]
        mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).float()
        beginning = _chunks(team.share(first), size)
        others = [i for i in range(len(trajectories)) if i not in first]
        others.sort(key=lambda i: trajectories[i].prefix_ids)  # so that a pass reads few beginnings
        ahead: Evaluation | None = None
        columns = torch.zeros(5, *mask.shape)
        for chunk in [*beginning, *_chunks(team.share(others), size)]:
            members = [trajectories[i] for i in chunk]
            # No step comes before the first minibatch's, which would compute this again: so it keeps its graph.
            keeps = len(beginning) == 1 and chunk is beginning[0]
            with torch.set_grad_enabled(keeps):
                now = self.actor.evaluate(members, watch=True)
            ahead = now if keeps else ahead
            before = now.log_probs if untrained else self._reference(members)
            found = torch.stack([now.log_probs, now.values, now.entropy, now.plain_log_probs, before])
            rows = torch.zeros(5, len(chunk), mask.shape[1])
            rows[:, mask[list(chunk)].bool()] = found.detach().float().cpu()
            columns[:, list(chunk)] = rows
        team.add_up([columns])
        old, values, entropy, plain, reference = columns
        level, spread = self._units
        taken = Taken(scores, owners, mask, old, reference, (level + spread * values) * mask)
        advantages, returns = self._algorithm.advantages(taken, self.kl_coefficient)
        weights, figures = self._importance(trajectories, plain, mask)
        figures |= {
            "kl": float(((old - reference) * mask).sum(1).mean()),
            "kl_k3": float((low_variance_kl(reference - old) * mask).sum(1).mean()),
            "kl_coef": self.kl_coefficient,
            "step_scale": self.step_scale,
            "entropy": float(masked_mean(entropy, mask)),
        }
        if self._algorithm.has_critic:
            figures["explained_variance"] = explained_variance(taken.values, returns, mask)
        return Experience(trajectories, taken, advantages, returns, weights, ahead), figures

    @torch.no_grad()
    def _reference(self, trajectories: Sequence[Trajectory]) -> Tensor:
        with self.actor.reference():
            return self.actor.evaluate(trajectories).log_probs

    def _importance(
        self, trajectories: Sequence[Trajectory], plain: Tensor, mask: Tensor
    ) -> tuple[Tensor, dict[str, float]]:
        """Weights (B, T) of what another engine sampled, and how far it is from the trainer.

        An engine tells its log-probabilities at temperature 1. To first order in the difference of their logits, the
        log ratio at temperature T is the one at 1 over T, and exactly so at T = 1.
        """
        given = [t.engine_log_probs for t in trajectories]
        told = [torch.tensor(one) for one in given if one is not None]
        if len(told) < len(given):
            return mask.clone(), {}
        engine = torch.nn.utils.rnn.pad_sequence(told, batch_first=True)
        log_ratio = (plain - engine) / self.actor.temperature
        figures = {"mismatch_kl": float(masked_mean(low_variance_kl(log_ratio), mask))}
        if self._config.importance_cap is None:
            return mask.clone(), figures
        weights = self._algorithm.weights(log_ratio, mask, self._config.importance_cap)
        return weights, figures | {"importance_weight": float(masked_mean(weights, mask))}

    def _learn(self, experience: Experience, minibatches: Sequence[Sequence[int]]) -> dict[str, float]:
        sums: dict[str, float] = {}
        for number, minibatch in enumerate(minibatches):
            ahead = experience.ahead if number == 0 else None
            for name, value in self._step(experience, minibatch, ahead).items():
                sums[name] = sums.get(name, 0.0) + value
        return {name: value / len(minibatches) for name, value in sums.items()}

    def _step(self, experience: Experience, minibatch: Sequence[int], ahead: Evaluation | None) -> dict[str, float]:
        """One optimiser step; the minibatch goes through in micro-batches whose gradients add up. Raises NotFiniteError
        where the step can't be told, and leaves the weights as they were."""
        mask = experience.taken.mask[list(minibatch)]
        count, tokens = self._algorithm.count(mask), float(mask.sum())
        sums = torch.zeros(3, device=self.actor.device)
        for parameter in (*self._adapter, *self._critic):
            parameter.grad = torch.zeros_like(parameter)  # a process whose part is empty adds zeros
        for places in _chunks(self._team.share(minibatch), self._config.micro_batch):
            now = ahead or self.actor.evaluate([experience.trajectories[i] for i in places])
            part, goal = self._part(experience, places)
            surrogate, clipped = self._algorithm.loss(now.log_probs, part, self.kl_coefficient)
            error = value_loss(now.values, goal) if self._algorithm.has_critic else torch.zeros_like(surrogate)
            # Policy and critic share no parameter that learns, so the two losses need no weight against each other.
            (surrogate / count + error / tokens).backward()
            sums += torch.stack([surrogate.detach() / count, error.detach() / tokens, clipped.float() / count])
        self._team.add_up([sums, *(p.grad for p in (*self._adapter, *self._critic) if p.grad is not None)])
        norm = torch.nn.utils.clip_grad_norm_(self._adapter, self._config.max_grad_norm)
        critics = torch.nn.utils.clip_grad_norm_(self._critic, self._config.max_grad_norm)
        if not bool((sums.sum() + norm + critics).isfinite()):
            raise NotFiniteError(minibatch)
        self._optimizer.step()
        loss, error_mean, clip_share = sums.tolist()
        figures = {"policy_loss": loss, "clip_share": clip_share, "gradient_norm": float(norm)}
        return figures | ({"value_loss": error_mean} if self._algorithm.has_critic else {})

    def _part(self, experience: Experience, places: Sequence[int]) -> tuple[Part, Tensor]:
        """What is known of some responses, token by token, and what a critic should have said of them."""
        taken, chosen = experience.taken, list(places)
        real = taken.mask[chosen].bool()

        def flat(tensor: Tensor) -> Tensor:
            return tensor[chosen][real].to(self.actor.device)  # (N,)

        columns = (taken.log_probs, taken.reference, experience.advantages, experience.weights)
        level, spread = self._units
        return Part(real.sum(1).tolist(), *map(flat, columns)), flat((experience.returns - level) / spread)

    def save(self, folder: Path) -> None:
        """Everything from which :meth:`load` goes on to the same weights. Random choices come from the seed and the
        iteration, so there is no generator's state to keep."""
        self.actor.save_adapter(folder)
        state = {
            "optimizer": self._optimizer.state_dict(),
            "value_head": self.actor.value_head.state_dict(),
            "critic_adapter": {name: one.detach() for name, one in self.actor.critic_adapter().items()},
            "kl_coefficient": self.kl_coefficient,
            "step_scale": self.step_scale,
            "units": self._units,
        }
        torch.save(state, folder / _FILE)

    def load(self, folder: Path) -> None:
        self.actor.load_adapter(folder)
        state: dict[str, Any] = torch.load(folder / _FILE, weights_only=True, map_location=self.actor.device)
        self._optimizer.load_state_dict(state["optimizer"])
        self.actor.value_head.load_state_dict(state["value_head"])
        for name, parameter in self.actor.critic_adapter().items():
            parameter.data.copy_(state["critic_adapter"][name])
        self.kl_coefficient, self.step_scale, self._units = (
            state[name] for name in ("kl_coefficient", "step_scale", "units")
        )


def _chunks(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [items[i : i + size] for i in range(0, len(items), size)]
