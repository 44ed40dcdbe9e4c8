"""Proximal policy optimisation of a LoRA policy with a critic, one iteration at a time.

Left out of the textbook: an entropy bonus, several environments. Kept: a token-level KL penalty to the initial policy
with an adaptive weight, GAE, whitened advantages, clipped policy and value losses.
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
from refine_af.rl.actor_critic import ActorCritic, Evaluation
from refine_af.rl.estimators import (
    explained_variance,
    generalized_advantages,
    importance_weights,
    low_variance_kl,
    masked_mean,
    next_kl_coefficient,
    policy_loss,
    token_rewards,
    value_loss,
    whitened,
)
from refine_af.rl.responses import Trajectory
from refine_af.team import Team


@dataclass(frozen=True, slots=True)
class Experience:
    """What an iteration learns from: trajectories, and per-token tensors (B, T) taken before the first step."""

    trajectories: Sequence[Trajectory]
    mask: Tensor
    log_probs: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor
    weights: Tensor  # of importance; 1 where the engine didn't say what it sampled from
    ahead: Evaluation | None  # of this process's part of the first minibatch, with its graph


class PPO:
    """Holds what changes from iteration to iteration: adapter, critic, optimiser, KL weight, step size.

    In a team every process holds the same of all this. Each takes its part of every batch through the network, and what
    comes of it is added up, so that all make the same step: that of one process, up to rounding.
    """

    def __init__(self, actor: ActorCritic, config: PolicyConfig, seed: int, team: Team | None = None) -> None:
        self.actor = actor
        self._team = team or Team()
        self.kl_coefficient = config.kl_coefficient
        self.step_scale = 1.0  # what guards have left of the adapter's learning rate
        self._config = config
        self._seed = seed
        self._adapter = actor.adapter_parameters()
        critic, head = list(actor.critic_adapter().values()), list(actor.value_head.parameters())
        self._critic = [*critic, *head]
        groups = [(self._adapter, config.learning_rate), (head, config.value_learning_rate)]
        groups += [(critic, config.learning_rate)] if critic else []
        self._optimizer = torch.optim.AdamW(
            [{"params": parameters, "lr": rate} for parameters, rate in groups], weight_decay=0.0
        )

    def iterate(self, iteration: int, trajectories: Sequence[Trajectory], scores: Sequence[float]) -> dict[str, float]:
        """Learns from responses and their scores; returns the iteration's figures. ``iteration`` counts from 1."""
        if iteration == 1:
            # A critic that starts at the mean reward need not first learn the reward's level.
            self.actor.value_head.bias.data.fill_(sum(scores) / len(scores))
        self._optimizer.param_groups[0]["lr"] = self._config.learning_rate * self.step_scale
        epochs = [self._minibatches(trajectories, iteration, epoch) for epoch in range(self._config.epochs)]
        experience, figures = self._collect(
            trajectories, torch.tensor(scores, dtype=torch.float32), epochs[0][0], untrained=iteration == 1
        )
        figures |= self._learn(experience, [minibatch for epoch in epochs for minibatch in epoch])
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
        self, trajectories: Sequence[Trajectory], scores: Tensor, first: Sequence[int], *, untrained: bool
    ) -> tuple[Experience, dict[str, float]]:
        """Old log-probabilities, values and the reference's, all by the network that will be trained: an engine's own
        log-probabilities are those of other kernels or a lower precision, and ρ would not be 1 before the first step
        (recomputed since TRL's and OpenRLHF's PPO). ``untrained``: the policy is the reference still."""
        size, team = self._config.micro_batch, self._team
        lengths = [len(t.response_ids) for t in trajectories]
        mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).float()
        beginning = _chunks(team.share(first), size)
        others = [i for i in range(len(trajectories)) if i not in first]
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
            taken = torch.stack([now.log_probs, now.values, now.entropy, now.plain_log_probs, before])
            rows = torch.zeros(5, len(chunk), mask.shape[1])
            rows[:, mask[list(chunk)].bool()] = taken.detach().float().cpu()
            columns[:, list(chunk)] = rows
        team.add_up([columns])
        old, values, entropy, plain, reference = columns
        rewards = token_rewards(scores, old, reference, mask, self.kl_coefficient)
        advantages, returns = generalized_advantages(rewards, values, mask, self._config.gamma, self._config.gae_lambda)
        weights, figures = self._importance(trajectories, plain, mask)
        figures |= {
            "kl": float(((old - reference) * mask).sum(1).mean()),
            "kl_k3": float((low_variance_kl(reference - old) * mask).sum(1).mean()),
            "kl_coef": self.kl_coefficient,
            "step_scale": self.step_scale,
            "entropy": float(masked_mean(entropy, mask)),
            "explained_variance": explained_variance(values, returns, mask),
        }
        white = whitened(advantages, mask)
        return Experience(trajectories, mask, old, values, white, returns, weights, ahead), figures

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
        weights = importance_weights(log_ratio, self._config.importance_cap) * mask
        return weights, figures | {"importance_weight": float(masked_mean(weights, mask))}

    def _learn(self, experience: Experience, minibatches: Sequence[Sequence[int]]) -> dict[str, float]:
        sums = {"policy_loss": 0.0, "value_loss": 0.0, "clip_share": 0.0, "gradient_norm": 0.0}
        for number, minibatch in enumerate(minibatches):
            ahead = experience.ahead if number == 0 else None
            for name, value in self._step(experience, minibatch, ahead).items():
                sums[name] += value
        return {name: value / len(minibatches) for name, value in sums.items()}

    def _step(self, experience: Experience, minibatch: Sequence[int], ahead: Evaluation | None) -> dict[str, float]:
        """One optimiser step; the minibatch goes through in micro-batches whose gradients add up."""
        count = float(experience.mask[list(minibatch)].sum())
        sums = torch.zeros(3, device=self.actor.device)
        for parameter in (*self._adapter, *self._critic):
            parameter.grad = torch.zeros_like(parameter)  # a process whose part is empty adds zeros
        for places in _chunks(self._team.share(minibatch), self._config.micro_batch):
            now = ahead or self.actor.evaluate([experience.trajectories[i] for i in places])
            real = experience.mask[list(places)].bool()

            def flat(tensor: Tensor, places: Sequence[int] = places, real: Tensor = real) -> Tensor:
                return tensor[list(places)][real].to(self.actor.device)  # (N,)

            surrogate, clipped = policy_loss(
                now.log_probs,
                flat(experience.log_probs),
                flat(experience.advantages),
                self._config.clip_range,
                flat(experience.weights),
            )
            error = value_loss(
                now.values, flat(experience.values), flat(experience.returns), self._config.value_clip_range
            )
            # Policy and critic share no parameter that learns, so the two losses need no weight against each other.
            ((surrogate + error) / count).backward()
            sums += torch.stack([surrogate.detach(), error.detach(), clipped.float()]) / count
        self._team.add_up([sums, *(p.grad for p in (*self._adapter, *self._critic) if p.grad is not None)])
        norm = torch.nn.utils.clip_grad_norm_(self._adapter, self._config.max_grad_norm)
        torch.nn.utils.clip_grad_norm_(self._critic, self._config.max_grad_norm)
        self._optimizer.step()
        names = ("policy_loss", "value_loss", "clip_share")
        return dict(zip(names, sums.tolist(), strict=True)) | {"gradient_norm": float(norm)}

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
        }
        torch.save(state, folder / "trainer.pt")

    def load(self, folder: Path) -> None:
        self.actor.load_adapter(folder)
        state: dict[str, Any] = torch.load(folder / "trainer.pt", weights_only=True, map_location=self.actor.device)
        self._optimizer.load_state_dict(state["optimizer"])
        self.actor.value_head.load_state_dict(state["value_head"])
        for name, parameter in self.actor.critic_adapter().items():
            parameter.data.copy_(state["critic_adapter"][name])
        self.kl_coefficient = state["kl_coefficient"]
        self.step_scale = state.get("step_scale", 1.0)  # older checkpoints have none


def _chunks(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [items[i : i + size] for i in range(0, len(items), size)]
