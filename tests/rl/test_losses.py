"""What tells the algorithms apart: their losses are TRL's on the same tensors, and a rollout of several turns is one
member of its group."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_trainer import with_settings, written
from torch import Tensor
from toys import actor_of, trainer
from trl import GRPOTrainer, RLOOTrainer

from refine_af.config import PolicyConfig
from refine_af.rl.algorithms import Part, Taken, algorithm_of
from refine_af.rl.trainer import Trainer

BETA, CLIP, GROUP = 0.07, 0.2, 4


def drawn(seed: int) -> dict[str, Tensor]:
    """Of eight responses of different lengths, as they are while they are learnt from."""
    made = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 7, (8,), generator=made)
    mask = (torch.arange(int(lengths.max())) < lengths[:, None]).float()

    def near(other: Tensor, width: float) -> Tensor:
        return (other + width * torch.randn(other.shape, generator=made)) * mask

    old = near(-2 * torch.ones(mask.shape), 1.0)
    return {"mask": mask, "old": old, "new": near(old, 0.3), "reference": near(old, 0.3),
            "scores": torch.randn(8, generator=made)}  # fmt: skip


def ours(name: str, case: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Loss, its gradient to the new log-probabilities, and the share that was clipped."""
    algorithm = algorithm_of(with_settings(algorithm=name, group_size=GROUP, kl_coefficient=BETA, clip_range=CLIP))
    mask, real = case["mask"], case["mask"].bool()
    taken = Taken(case["scores"], torch.arange(8), mask, case["old"], case["reference"], torch.zeros_like(mask))
    advantages, _ = algorithm.advantages(taken, BETA)
    part = Part(mask.sum(1).int().tolist(), case["old"][real], case["reference"][real], advantages[real],
                torch.ones(int(mask.sum())))  # fmt: skip
    new = case["new"].clone().requires_grad_()
    loss, clipped = algorithm.loss(new[real], part, BETA)
    loss = loss / algorithm.count(mask)
    return loss, torch.autograd.grad(loss, new)[0], clipped / algorithm.count(mask)


def theirs(name: str, case: dict[str, Tensor]) -> tuple[Tensor, Tensor, float]:
    """The same by TRL's trainer, given what it would have computed itself."""
    new = case["new"].clone().requires_grad_()
    mask, metrics = case["mask"], defaultdict[str, list[float]](list)
    entropy = torch.zeros_like(mask)
    kept: dict[str, Any] = {
        "_get_per_token_logps_and_entropies": lambda *args, **kwargs: (new, entropy, None),
        "_metrics": {"train": metrics}, "model": SimpleNamespace(training=True), "aux_loss_enabled": False,
        "accelerator": SimpleNamespace(num_processes=1, reduce=lambda t, reduction: t, gather=lambda t: t),
        "epsilon_low": CLIP, "epsilon_high": CLIP, "beta": BETA, "top_entropy_quantile": 1.0,
        "off_policy_mask_threshold": None, "importance_sampling_level": "token", "loss_type": "dapo",
        "use_vllm": False, "_entropy_bonus_enabled": False, "current_gradient_accumulation_steps": 1,
        "args": SimpleNamespace(delta=None, use_bias_correction_kl=False, steps_per_generation=1),
    }  # fmt: skip
    groups = case["scores"].view(-1, GROUP)
    kl = ((case["old"] - case["reference"]) * mask).sum(1)
    rewards = (case["scores"] - BETA * kl).view(-1, GROUP)
    advantages = {
        "grpo": ((groups - groups.mean(1, keepdim=True)) / (groups.std(1, keepdim=True) + 1e-4)).flatten(),
        "rloo": (rewards - (rewards.sum(1, keepdim=True) - rewards) / (GROUP - 1)).flatten(),
    }[name]
    inputs = {
        "prompt_ids": torch.zeros(8, 1), "prompt_mask": torch.ones(8, 1), "completion_ids": mask,
        "completion_mask": mask, "advantages": advantages, "old_per_token_logps": case["old"],
        "ref_per_token_logps": case["reference"], "old_logps": case["old"].sum(1), "num_items_in_batch": mask.sum(),
    }  # fmt: skip
    trainer = {"grpo": GRPOTrainer, "rloo": RLOOTrainer}[name]
    loss = trainer._compute_loss(SimpleNamespace(**kept), None, inputs)
    return loss, torch.autograd.grad(loss, new)[0], metrics["clip_ratio/region_mean"][0]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("name", ["grpo", "rloo"])
def test_losses_and_gradients_are_those_of_trl(name: str, seed: int) -> None:
    case = drawn(seed)
    (loss, gradient, clipped), (expected, slope, share) = ours(name, case), theirs(name, case)
    assert float(loss) == pytest.approx(float(expected), abs=1e-5)
    torch.testing.assert_close(gradient, slope, atol=1e-6, rtol=1e-4)
    assert float(clipped) == pytest.approx(share, abs=1e-6)


@pytest.mark.parametrize("seed", range(8))
def test_mipos_gradient_at_an_iterations_first_step_is_that_of_dpo(seed: int) -> None:
    """Rafailov et al. 2023, equation 7, over the four pairs."""
    case = drawn(seed) | {"new": drawn(seed)["old"]}
    _, gradient, _ = ours("mipo", case)
    new = case["new"].clone().requires_grad_()
    ratios = ((new - case["reference"]) * case["mask"]).sum(1).view(4, 2)
    loss = -torch.nn.functional.logsigmoid(BETA * (ratios[:, 0] - ratios[:, 1])).mean()
    torch.testing.assert_close(gradient, torch.autograd.grad(loss, new)[0], atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("name", ["ppo", "grpo", "rloo"])
def test_turns_of_one_rollout_share_its_score_and_empty_ones_still_count_in_their_group(name: str) -> None:
    """Scores stand for rollouts: the first has two turns, the second none that has a token."""
    items, _ = written(count=8)
    scores, owners = [1.0, -2.0, 0.5, 0.0, 0.3, 0.1, 0.9, -0.4], [0, 0, 2, 3, 4, 5, 6, 7]
    config = with_settings(algorithm=name, group_size=GROUP, epochs=1, kl_coefficient=0.0)
    one = Trainer(actor_of(config, 0), config, 0)
    experience, _ = one._collect(items, torch.tensor(scores), torch.tensor(owners), range(8), untrained=True)
    first, second = (experience.advantages[i][0] for i in (0, 1))
    assert float(first) == pytest.approx(float(second), abs=1e-5)
    if name == "rloo":
        assert float(first) == pytest.approx(1.0 - (-2.0 + 0.5 + 0.0) / 3, abs=1e-5)


@pytest.mark.parametrize("name", ["grpo", "rloo"])
def test_a_group_of_equal_scores_teaches_nothing(name: str) -> None:
    items, _ = written(count=8)
    config = with_settings(algorithm=name, group_size=GROUP, kl_coefficient=0.0)
    figures = trainer(config).iterate(1, items, [1.0] * 4 + [-2.0] * 4)
    assert figures["gradient_norm"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", ["grpo", "rloo"])
def test_without_a_critic_there_are_none_of_its_figures(name: str) -> None:
    items, scores = written(count=8)
    config = with_settings(algorithm=name, group_size=GROUP)
    figures = trainer(config).iterate(1, items, scores)
    assert not {"value_loss", "explained_variance"} & figures.keys()
    assert figures["kl_coef"] == trainer(config).kl_coefficient, "the weight stays as it is"


@given(st.integers(2, 300), st.integers(2, 40))
def test_any_number_of_rollouts_is_shared_out_in_even_groups_of_about_the_asked_size(rollouts: int, size: int) -> None:
    groups = PolicyConfig(algorithm="rloo", rollouts=rollouts, group_size=size).groups(rollouts)
    assert sum(groups) == rollouts
    assert min(groups) >= 2, "one alone has nothing to be compared with"
    assert max(groups) - min(groups) <= 1
    assert max(groups) <= 1.5 * size + 1
    if rollouts % size == 0:
        assert set(groups) == {size}


@pytest.mark.parametrize("name", ["grpo", "rloo"])
def test_a_policy_learns_from_rollouts_that_groups_do_not_divide(name: str) -> None:
    items, scores = written(count=7)
    config = with_settings(algorithm=name, group_size=GROUP)
    assert trainer(config).iterate(1, items, scores)["gradient_norm"] > 0


def test_a_critic_where_there_is_none_is_told() -> None:
    with pytest.raises(ValueError, match="critic is adapter, but grpo has no critic"):
        PolicyConfig(algorithm="grpo", critic="adapter")
    PolicyConfig(algorithm="ppo", critic="adapter")
