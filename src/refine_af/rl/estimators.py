"""The formulas of PPO, RLOO and GRPO as functions of tensors: rewards, advantages, losses, and the KL controller.

Shapes: B responses, T tokens of the longest; ``mask`` (B, T) is 1 on response tokens and 0 on padding after them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def token_rewards(scores: Tensor, log_probs: Tensor, reference: Tensor, mask: Tensor, kl_coefficient: float) -> Tensor:
    """(B, T): at each token the KL penalty to the reference, at the last token the response's score (B,) too.

    Ziegler et al. 2019 (arXiv 1909.08593), eq. 2, with the single-sample estimate log π − log π_ref of the KL.
    """
    rewards = -kl_coefficient * (log_probs - reference) * mask
    last = mask.sum(1).long() - 1  # (B,)
    rewards[torch.arange(len(scores)), last] += scores
    return rewards


def generalized_advantages(
    rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float
) -> tuple[Tensor, Tensor]:
    """Advantages and returns, both (B, T). Schulman et al. 2015 (arXiv 1506.02438), eq. 16.

    After the last token the value is 0: the response is over.
    """
    advantages = torch.zeros_like(rewards)
    following_value = torch.zeros(rewards.shape[0])
    following_advantage = torch.zeros(rewards.shape[0])
    for t in reversed(range(rewards.shape[1])):
        here = mask[:, t]
        delta = rewards[:, t] + gamma * following_value - values[:, t]
        following_advantage = here * (delta + gamma * lam * following_advantage)
        following_value = here * values[:, t]
        advantages[:, t] = following_advantage
    return advantages, (advantages + values) * mask


def leave_one_out(rewards: Tensor, groups: Sequence[int]) -> Tensor:
    """(R,): each rollout's reward less the mean of the others' in its group; groups, of so many rollouts, stand side by
    side.

    Kool et al. 2019, "Buy 4 REINFORCE samples, get a baseline for free!"; Ahmadian et al. 2024 (arXiv 2402.14740).
    """
    split = rewards.split(list(groups))
    return torch.cat([one - (one.sum() - one) / (len(one) - 1) for one in split])


def standardised_in_groups(scores: Tensor, groups: Sequence[int]) -> Tensor:
    """(R,): each rollout's score less its group's mean, over its group's deviation; groups, of so many rollouts, stand
    side by side.

    Shao et al. 2024 (arXiv 2402.03300), section 4.1.2, with 1e-4 added to the deviation as TRL has it. In a group of
    equal scores nothing is learnt.
    """
    split = scores.split(list(groups))
    return torch.cat([(one - one.mean()) / (one.std() + 1e-4) for one in split])


def whitened(values: Tensor, mask: Tensor) -> Tensor:
    """Mean 0 and variance 1 over the masked entries, 0 elsewhere."""
    return (values - masked_mean(values, mask)) * torch.rsqrt(masked_variance(values, mask) + 1e-8) * mask


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    return (values * mask).sum() / mask.sum()


def masked_variance(values: Tensor, mask: Tensor) -> Tensor:
    return masked_mean((values - masked_mean(values, mask)) ** 2, mask)


def policy_loss(
    new: Tensor, old: Tensor, advantages: Tensor, clip_range: float, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Clipped surrogate, weighted and summed over tokens, and how many tokens were clipped. Inputs (N,).

    Schulman et al. 2017 (arXiv 1707.06347), eq. 7, negated to be minimised; for the weights see
    :func:`importance_weights`.
    """
    ratio = torch.exp(new - old)
    clipped = ratio.clamp(1 - clip_range, 1 + clip_range)
    losses = torch.maximum(-advantages * ratio, -advantages * clipped)
    return (weights * losses).sum(), (-advantages * clipped > -advantages * ratio).sum()


def importance_weights(log_ratio: Tensor, cap: float) -> Tensor:
    """min(π_trainer / π_engine, cap) of tokens that one sampled and the other learns from, by their log ratio.

    Truncated importance sampling (Ionides 2008), for engines that differ from the trainer by their kernels or their
    precision as in Yao et al. 2025, "Your efficient RL framework secretly brings you off-policy RL training".
    """
    return log_ratio.exp().clamp(max=cap)


def low_variance_kl(log_ratio: Tensor) -> Tensor:
    """k3 = (r − 1) − log r, of r = q / p at tokens drawn from p: a KL(p, q) estimate that is never below 0.

    Schulman 2020, "Approximating KL divergence". The penalty is k1 = −log r, whose mean is the same; k3 spreads less.
    """
    return log_ratio.exp() - 1 - log_ratio


def value_loss(new: Tensor, returns: Tensor) -> Tensor:
    """Half the squared error, summed over tokens. Inputs (N,).

    Its change is not clipped: that stops the critic's learning where returns spread further than the clip, and was
    found to hurt elsewhere, too (Andrychowicz et al. 2020, arXiv 2006.05990).
    """
    return 0.5 * (new - returns).square().sum()


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> float:
    """1 where the values foretell the returns exactly, 0 where they do no better than the returns' mean."""
    variance = masked_variance(returns, mask)
    return float(1 - masked_variance(returns - values, mask) / variance) if variance > 1e-12 else 0.0


def next_kl_coefficient(coefficient: float, kl: float, target: float) -> float:
    """The adaptive controller of Ziegler et al. 2019, section 2.2: proportional, at most ±20 % of error, gain 0.1."""
    error = max(-0.2, min(0.2, kl / target - 1))
    return coefficient * (1 + 0.1 * error)
