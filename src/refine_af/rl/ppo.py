"""Proximal policy optimisation of a LoRA policy with a critic, one iteration at a time.

Left out of the textbook: an entropy bonus, a learning-rate schedule, several environments. Kept: a token-level KL
penalty to the initial policy with an adaptive weight, GAE, whitened advantages, clipped policy and value losses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from refine_af.config import PolicyConfig
from refine_af.records import derived_random
from refine_af.rl.actor_critic import ActorCritic, Trajectory
from refine_af.rl.estimators import (
    explained_variance,
    generalized_advantages,
    masked_mean,
    next_kl_coefficient,
    policy_loss,
    token_rewards,
    value_loss,
    whitened,
)


@dataclass(frozen=True, slots=True)
class Experience:
    """What an iteration learns from: trajectories, and per-token tensors (B, T) taken before the first step."""

    trajectories: Sequence[Trajectory]
    mask: Tensor
    log_probs: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor


class PPO:
    """Holds what changes from iteration to iteration: adapter, critic, optimiser, KL weight."""

    def __init__(self, actor: ActorCritic, config: PolicyConfig, seed: int) -> None:
        self.actor = actor
        self.kl_coefficient = config.kl_coefficient
        self._config = config
        self._seed = seed
        self._adapter = actor.adapter_parameters()
        self._head = list(actor.value_head.parameters())
        self._optimizer = torch.optim.AdamW(
            [
                {"params": self._adapter, "lr": config.learning_rate},
                {"params": self._head, "lr": config.value_learning_rate},
            ],
            weight_decay=0.0,
        )

    def iterate(self, iteration: int, trajectories: Sequence[Trajectory], scores: Sequence[float]) -> dict[str, float]:
        """Learns from responses and their scores; returns the iteration's figures. ``iteration`` counts from 1."""
        if iteration == 1:
            # A critic that starts at the mean reward need not first learn the reward's level.
            self.actor.value_head.bias.data.fill_(sum(scores) / len(scores))
        experience, figures = self._collect(trajectories, torch.tensor(scores, dtype=torch.float32))
        figures |= self._learn(experience, iteration)
        self.kl_coefficient = next_kl_coefficient(self.kl_coefficient, figures["kl"], self._config.kl_target)
        return figures

    @torch.no_grad()
    def _collect(self, trajectories: Sequence[Trajectory], scores: Tensor) -> tuple[Experience, dict[str, float]]:
        """Old log-probabilities, values and the reference's, all by the network that will be trained."""
        columns: dict[str, list[Tensor]] = {"old": [], "values": [], "entropy": [], "reference": []}
        for chunk in _chunks(trajectories, self._config.micro_batch):
            now = self.actor.evaluate(chunk, entropy=True)
            with self.actor.reference():
                before = self.actor.evaluate(chunk)
            assert now.entropy is not None
            for name, tensor in zip(columns, (now.log_probs, now.values, now.entropy, before.log_probs), strict=True):
                columns[name].append(tensor.cpu())
        lengths = [len(t.response_ids) for t in trajectories]
        old, values, entropy, reference = (_padded(torch.cat(c), lengths) for c in columns.values())
        mask = _padded(torch.ones(sum(lengths)), lengths)
        rewards = token_rewards(scores, old, reference, mask, self.kl_coefficient)
        advantages, returns = generalized_advantages(rewards, values, mask, self._config.gamma, self._config.gae_lambda)
        figures = {
            "kl": float(((old - reference) * mask).sum(1).mean()),
            "kl_coef": self.kl_coefficient,
            "entropy": float(masked_mean(entropy, mask)),
            "explained_variance": explained_variance(values, returns, mask),
        }
        return Experience(trajectories, mask, old, values, whitened(advantages, mask), returns), figures

    def _learn(self, experience: Experience, iteration: int) -> dict[str, float]:
        sums = {"policy_loss": 0.0, "value_loss": 0.0, "clip_share": 0.0, "gradient_norm": 0.0}
        steps = 0
        for epoch in range(self._config.epochs):
            order = list(range(len(experience.trajectories)))
            derived_random(self._seed, "minibatches", iteration, epoch).shuffle(order)
            for minibatch in _chunks(order, self._config.minibatch):
                for name, value in self._step(experience, minibatch).items():
                    sums[name] += value
                steps += 1
        return {name: value / steps for name, value in sums.items()}

    def _step(self, experience: Experience, minibatch: Sequence[int]) -> dict[str, float]:
        """One optimiser step; the minibatch goes through in micro-batches whose gradients add up."""
        count = float(experience.mask[list(minibatch)].sum())
        figures = {"policy_loss": 0.0, "value_loss": 0.0, "clip_share": 0.0}
        self._optimizer.zero_grad(set_to_none=True)
        for places in _chunks(minibatch, self._config.micro_batch):
            now = self.actor.evaluate([experience.trajectories[i] for i in places])
            real = experience.mask[list(places)].bool()

            def flat(tensor: Tensor, places: Sequence[int] = places, real: Tensor = real) -> Tensor:
                return tensor[list(places)][real].to(self.actor.device)  # (N,)

            surrogate, clipped = policy_loss(
                now.log_probs, flat(experience.log_probs), flat(experience.advantages), self._config.clip_range
            )
            error = value_loss(
                now.values, flat(experience.values), flat(experience.returns), self._config.value_clip_range
            )
            # Adapter and head share no parameter, so the two losses need no weight against each other.
            ((surrogate + error) / count).backward()
            figures["policy_loss"] += float(surrogate.detach()) / count
            figures["value_loss"] += float(error.detach()) / count
            figures["clip_share"] += float(clipped) / count
        norm = torch.nn.utils.clip_grad_norm_(self._adapter, self._config.max_grad_norm)
        torch.nn.utils.clip_grad_norm_(self._head, self._config.max_grad_norm)
        self._optimizer.step()
        return figures | {"gradient_norm": float(norm)}

    def save(self, folder: Path) -> None:
        """Everything from which :meth:`load` goes on to the same weights."""
        self.actor.save_adapter(folder)
        state = {
            "optimizer": self._optimizer.state_dict(),
            "value_head": self.actor.value_head.state_dict(),
            "kl_coefficient": self.kl_coefficient,
        }
        torch.save(state, folder / "trainer.pt")

    def load(self, folder: Path) -> None:
        self.actor.load_adapter(folder)
        state: dict[str, Any] = torch.load(folder / "trainer.pt", weights_only=True, map_location=self.actor.device)
        self._optimizer.load_state_dict(state["optimizer"])
        self.actor.value_head.load_state_dict(state["value_head"])
        self.kl_coefficient = state["kl_coefficient"]


def _chunks(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [items[i : i + size] for i in range(0, len(items), size)]


def _padded(flat: Tensor, lengths: Sequence[int]) -> Tensor:
    """(N,) with responses one after another, as (B, T) with zeros behind each."""
    return torch.nn.utils.rnn.pad_sequence(list(flat.split(list(lengths))), batch_first=True)
