"""On rewards whose optimum is known, a tiny policy goes from chance to near it within a fixed budget, for any seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from toys import CONFIG, END, LENGTH, sampled, trainer

from refine_af.config import PolicyConfig
from refine_af.rl.responses import Trajectory
from refine_af.rl.trainer import Trainer

SEEDS = range(3)
BUDGET = 40  # iterations of 32 responses
TOKEN, GOOD_ARM, OTHER_ARM = 3, 7, 4


def curve(
    score: Callable[[Trajectory], float],
    seed: int,
    *,
    length: int = LENGTH,
    algorithm: str = "ppo",
    budget: int = BUDGET,
    ends: bool = True,
    **settings: Any,
) -> list[float]:
    """The mean score at each iteration, where the algorithm learns from it."""
    config = PolicyConfig.model_validate(CONFIG.model_dump() | {"algorithm": algorithm, "group_size": 8} | settings)
    ppo, generator = trainer(config, seed), torch.Generator().manual_seed(seed)
    each = config.group_size if config.in_groups else 1
    means = []
    for iteration in range(1, budget + 1):
        items = sampled(ppo, generator, length, each, ends=ends)
        scores = [score(one) for one in items]
        means.append(sum(scores) / len(scores))
        ppo.iterate(iteration, items, scores)
    return means


def last(means: list[float]) -> float:
    return sum(means[-5:]) / 5


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("algorithm", ["ppo", "grpo", "rloo"])
def test_it_learns_to_emit_a_token(algorithm: str, seed: int) -> None:
    means = curve(lambda one: one.response_ids.count(TOKEN) / LENGTH, seed, algorithm=algorithm)
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


def pays_at(place: int) -> Callable[[Trajectory], float]:
    return lambda one: float(one.response_ids[place] == TOKEN)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("place", [0, 30], ids=["first", "middle"])
def test_it_learns_what_pays_long_before_the_response_ends(place: int, seed: int) -> None:
    """Of sixty tokens one pays, and the score comes at the end. How soon, hangs on rounding."""
    means = curve(pays_at(place), seed, length=60, ends=False, budget=80, learning_rate=5e-3)
    assert means[0] < 0.4
    assert last(means) > 0.9


def test_with_a_lower_lambda_a_score_fades_before_it_reaches_the_beginning() -> None:
    """Why the default is 1."""
    assert last(curve(pays_at(0), 0, length=60, ends=False, budget=60, gae_lambda=0.8)) < 0.4


@pytest.mark.parametrize("seed", SEEDS)
def test_mipo_learns_to_answer_each_of_two_prompts_in_its_own_way(seed: int) -> None:
    """Without any score: the mutual information of prompt and answer rises, from near 0 towards log 2 = 0.69."""
    config = PolicyConfig.model_validate(CONFIG.model_dump() | {"algorithm": "mipo", "kl_coefficient": 0.3})
    learner, generator = trainer(config, seed), torch.Generator().manual_seed(seed)
    prompts = (2, 3)
    before = information(learner, prompts)
    for iteration in range(1, BUDGET + 1):
        drawn = torch.multinomial(first_tokens(learner, prompts), 8, replacement=True, generator=generator)
        items = [
            Trajectory((0,), (prompt,), (int(answer),))
            for own, prompt in enumerate(prompts)
            for n in range(8)
            for answer in (drawn[own][n], drawn[1 - own][n])
        ]
        learner.iterate(iteration, items, [0.0] * len(items))
    assert before < 0.2
    assert information(learner, prompts) > 0.5


@torch.no_grad()
def first_tokens(learner: Trainer, prompts: tuple[int, int]) -> torch.Tensor:
    """(2, V): the probabilities of an answer's first token behind each prompt."""
    return learner.actor.policy(input_ids=torch.tensor([[0, one] for one in prompts])).logits[:, -1].softmax(-1)


def information(learner: Trainer, prompts: tuple[int, int]) -> float:
    """Of prompt and first token, in nats."""
    each = first_tokens(learner, prompts)
    return float((each * (each / each.mean(0)).log()).sum(1).mean())
