"""On rewards whose optimum is known, a tiny policy goes from chance to near it within a fixed budget, for any seed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from toys import END, LENGTH, sampled, trainer

from refine_af.rl.responses import Trajectory

SEEDS = range(3)
BUDGET = 40  # iterations of 32 responses
TOKEN, GOOD_ARM, OTHER_ARM = 3, 7, 4


def curve(score: Callable[[Trajectory], float], seed: int, *, length: int = LENGTH) -> list[float]:
    """The mean score at each iteration, where PPO learns from it."""
    ppo, generator = trainer(seed=seed), torch.Generator().manual_seed(seed)
    means = []
    for iteration in range(1, BUDGET + 1):
        items = sampled(ppo, generator, length)
        scores = [score(one) for one in items]
        means.append(sum(scores) / len(scores))
        ppo.iterate(iteration, items, scores)
    return means


def last(means: list[float]) -> float:
    return sum(means[-5:]) / 5


@pytest.mark.parametrize("seed", SEEDS)
def test_it_learns_to_emit_a_token(seed: int) -> None:
    means = curve(lambda one: one.response_ids.count(TOKEN) / LENGTH, seed)
    assert means[0] < 0.3
    assert last(means) > 0.9


@pytest.mark.parametrize("seed", SEEDS)
def test_it_learns_to_end_at_once(seed: int) -> None:
    means = curve(lambda one: 1 - (len(one.response_ids) - 1) / LENGTH if END in one.response_ids else 0.0, seed)
    assert means[0] < 0.6
    assert last(means) > 0.9


@pytest.mark.parametrize("seed", SEEDS)
def test_it_learns_which_of_two_arms_pays_more(seed: int) -> None:
    """The other one, not to be settled for, pays half as much, and what is no arm pays nothing."""
    pay = {GOOD_ARM: 1.0, OTHER_ARM: 0.5}
    means = curve(lambda one: pay.get(one.response_ids[0], 0.0), seed, length=1)
    assert means[0] < 0.4
    assert last(means) > 0.9
