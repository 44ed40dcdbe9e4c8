"""What tells PPO, RLOO, GRPO and MIPO apart: how scores become advantages, and what is minimised. All else, from
rollouts to checkpoints, is one trainer's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from refine_af.config import PolicyConfig
from refine_af.rl.estimators import (
    generalized_advantages,
    importance_weights,
    leave_one_out,
    low_variance_kl,
    policy_loss,
    standardised_in_groups,
    token_rewards,
    whitened,
)


@dataclass(frozen=True, slots=True)
class Taken:
    """What is known before an iteration's first step. ``scores`` (R,) are those of rollouts, groups side by side;
    ``owners`` (B,) says of which rollout a response is; the rest are per-token (B, T)."""

    scores: Tensor
    owners: Tensor
    mask: Tensor
    log_probs: Tensor
    reference: Tensor
    values: Tensor


@dataclass(frozen=True, slots=True)
class Part:
    """Of some responses the tokens (N,), one response after another; ``sizes``: how many are each one's."""

    sizes: Sequence[int]
    log_probs: Tensor  # before the first step
    reference: Tensor
    advantages: Tensor
    weights: Tensor  # of importance


class Algorithm(Protocol):
    has_critic: bool
    adapts_kl: bool  # whether the weight of the KL penalty follows the KL

    def advantages(self, taken: Taken, kl_coefficient: float) -> tuple[Tensor, Tensor]:
        """Advantages and returns, both (B, T); returns are what a critic learns."""
        ...

    def weights(self, log_ratio: Tensor, mask: Tensor, cap: float) -> Tensor:
        """(B, T): of importance, out of the tokens' log ratios of trainer and engine."""
        ...

    def loss(self, new: Tensor, part: Part, kl_coefficient: float) -> tuple[Tensor, Tensor]:
        """What is minimised, summed over the part, and what of it was clipped."""
        ...

    def count(self, mask: Tensor) -> float:
        """What the loss of responses with this mask (B, T) is the mean over."""
        ...


class _PerToken:
    """Each token is an action: its ratio is clipped, it has a weight of its own, and losses are means over tokens."""

    def __init__(self, config: PolicyConfig) -> None:
        self._config = config

    def weights(self, log_ratio: Tensor, mask: Tensor, cap: float) -> Tensor:
        return importance_weights(log_ratio, cap) * mask

    def count(self, mask: Tensor) -> float:
        return float(mask.sum())


class ByCritic(_PerToken):
    """PPO (Schulman et al. 2017, arXiv 1707.06347) with GAE; the KL penalty is a part of the rewards, and follows the
    KL (Ziegler et al. 2019, arXiv 1909.08593)."""

    has_critic, adapts_kl = True, True

    def advantages(self, taken: Taken, kl_coefficient: float) -> tuple[Tensor, Tensor]:
        scores = taken.scores[taken.owners]
        rewards = token_rewards(scores, taken.log_probs, taken.reference, taken.mask, kl_coefficient)
        gamma, lam = self._config.gamma, self._config.gae_lambda
        advantages, returns = generalized_advantages(rewards, taken.values, taken.mask, gamma, lam)
        return whitened(advantages, taken.mask), returns

    def loss(self, new: Tensor, part: Part, kl_coefficient: float) -> tuple[Tensor, Tensor]:
        return policy_loss(new, part.log_probs, part.advantages, self._config.clip_range, part.weights)


class InStandardisedGroups(_PerToken):
    """GRPO (Shao et al. 2024, arXiv 2402.03300); the KL penalty is a part of the loss.

    Losses are means over a minibatch's tokens and not over each response's first, which would favour long wrong ones
    (DAPO, arXiv 2503.14476).
    """

    has_critic, adapts_kl = False, False

    def advantages(self, taken: Taken, kl_coefficient: float) -> tuple[Tensor, Tensor]:
        each = standardised_in_groups(taken.scores, self._config.groups(len(taken.scores)))
        advantages = each[taken.owners][:, None] * taken.mask
        return advantages, advantages

    def loss(self, new: Tensor, part: Part, kl_coefficient: float) -> tuple[Tensor, Tensor]:
        surrogate, clipped = policy_loss(new, part.log_probs, part.advantages, self._config.clip_range, part.weights)
        penalty = low_variance_kl(part.reference - new).sum()
        return surrogate + kl_coefficient * penalty, clipped


class AgainstTheOthers:
    """RLOO (Ahmadian et al. 2024, arXiv 2402.14740): a whole response is the action, so its ratio is clipped and has a
    weight as a whole, and losses are means over responses. The KL penalty is a part of a rollout's reward."""

    has_critic, adapts_kl = False, False

    def __init__(self, config: PolicyConfig) -> None:
        self._config = config

    def advantages(self, taken: Taken, kl_coefficient: float) -> tuple[Tensor, Tensor]:
        kl = ((taken.log_probs - taken.reference) * taken.mask).sum(1)  # (B,)
        rewards = taken.scores.index_add(0, taken.owners, kl, alpha=-kl_coefficient)
        each = leave_one_out(rewards, self._config.groups(len(rewards)))
        advantages = each[taken.owners][:, None] * taken.mask
        return advantages, advantages

    def weights(self, log_ratio: Tensor, mask: Tensor, cap: float) -> Tensor:
        return importance_weights((log_ratio * mask).sum(1, keepdim=True), cap) * mask

    def loss(self, new: Tensor, part: Part, kl_coefficient: float) -> tuple[Tensor, Tensor]:
        sizes = list(part.sizes)
        after, before = (torch.stack([one.sum() for one in t.split(sizes)]) for t in (new, part.log_probs))
        advantages, weights = (torch.stack([one[0] for one in t.split(sizes)]) for t in (part.advantages, part.weights))
        return policy_loss(after, before, advantages, self._config.clip_range, weights)

    def count(self, mask: Tensor) -> float:
        return float(len(mask))


class AgainstOtherPrompts:
    """MIPO (Nam et al. 2026, arXiv 2603.19294): DPO (Rafailov et al. 2023, arXiv 2305.18290) of what was written for a
    prompt against what was written for another one. Scores are not read: rollouts are responses, in pairs of the
    preferred one and the other behind the same prompt, and a pair's weight σ(−β Δ), with Δ the difference of their log
    ratios to the reference, is that before the iteration's first step. So the gradient is DPO's at that step, and its
    first order in the steps that follow. β is the weight of the KL penalty, which DPO's solution has."""

    has_critic, adapts_kl = False, False

    def __init__(self, config: PolicyConfig) -> None:
        pass

    def advantages(self, taken: Taken, kl_coefficient: float) -> tuple[Tensor, Tensor]:
        ratios = ((taken.log_probs - taken.reference) * taken.mask).sum(1)  # (B,)
        preferred, other = ratios.view(-1, 2).T
        slope = kl_coefficient * torch.sigmoid(-kl_coefficient * (preferred - other))
        each = torch.stack([slope, -slope], dim=1).flatten()
        advantages = each[:, None] * taken.mask
        return advantages, advantages

    def weights(self, log_ratio: Tensor, mask: Tensor, cap: float) -> Tensor:
        return mask.clone()  # an answer to another prompt was sampled by nobody

    def loss(self, new: Tensor, part: Part, kl_coefficient: float) -> tuple[Tensor, Tensor]:
        return -(part.advantages * new).sum(), torch.zeros((), device=new.device)

    def count(self, mask: Tensor) -> float:
        return len(mask) / 2


def algorithm_of(config: PolicyConfig) -> Algorithm:
    """That of ``policy.algorithm``, of those that train."""
    made: dict[str, Callable[[PolicyConfig], Algorithm]] = {
        "ppo": ByCritic,
        "grpo": InStandardisedGroups,
        "rloo": AgainstTheOthers,
        "mipo": AgainstOtherPrompts,
    }
    return made[config.algorithm](config)
