"""Gradients of many pairs at once are those of each pair alone, as peft's own adapter gets them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import get_peft_model
from tiny_sizes import SIZES
from torch import Tensor
from transformers import AutoModelForCausalLM, Gemma2Config, GPT2Config, LlamaConfig, MambaConfig

from refine_af.config import LoraSettings
from refine_af.errors import UsageError
from refine_af.feedback.influence.gradients import PairGradients
from refine_af.lora import lora_config
from refine_af.rl.responses import Trajectory

CONFIGS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "llama": (LlamaConfig(**SIZES), ("q_proj", "v_proj", "down_proj")),
    "gemma2": (Gemma2Config(**SIZES, final_logit_softcapping=2.0), ("q_proj", "v_proj")),
    "gpt2": (GPT2Config(vocab_size=60, n_embd=16, n_layer=2, n_head=4), ("c_attn",)),
}
PREFIX = (1, 4, 9)
ROWS = [
    Trajectory(PREFIX, (7, 21), (5, 2, 40)),
    Trajectory(PREFIX, (33, 8, 12, 50, 3), (10,)),
    Trajectory((), (11, 6), (7, 8, 9, 2)),
    Trajectory(PREFIX, (14,), (5, 5, 5, 5, 5, 5, 2)),
    Trajectory(PREFIX, (7, 21), (5, 2, 41)),
]


def network_of(name: str) -> tuple[Any, LoraSettings]:
    config, targets = CONFIGS[name]
    torch.manual_seed(5)
    model = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.mul_(4)  # so that attention is not uniform
    return model, LoraSettings(rank=3, alpha=6, targets=targets)


def adapter_on(network: Any, lora: LoraSettings, *, learnt: bool) -> tuple[Any, dict[str, tuple[Tensor, Tensor]]]:
    """peft's adapter on the network, and what each of its layers holds."""
    torch.manual_seed(6)
    adapted = get_peft_model(network, lora_config(lora))
    held = {}
    for name, module in network.named_modules():
        if hasattr(module, "lora_A"):
            a, b = module.lora_A["default"].weight, module.lora_B["default"].weight
            torch.nn.init.normal_(b, std=0.3 if learnt else 0.0)
            held[name] = (a.detach().clone(), b.detach().clone())
    return adapted, held


def by_peft(adapted: Any, row: Trajectory) -> Tensor:
    """The gradient of the mean log-probability of the row's response, the beginning's keys and values held fixed."""
    network = adapted.get_base_model()
    weights = [p for n, p in adapted.named_parameters() if "lora_" in n]
    from transformers import DynamicCache

    cache = DynamicCache(config=network.config)
    if row.prefix_ids:
        with torch.no_grad():
            network(input_ids=torch.tensor([row.prefix_ids]), past_key_values=cache, use_cache=True)
    ids = torch.tensor([row.prompt_ids + row.response_ids])
    positions = torch.arange(len(row.prefix_ids), len(row.prefix_ids) + ids.shape[1])[None]
    logits = network(input_ids=ids, past_key_values=cache, position_ids=positions, use_cache=True).logits[0]
    count = len(row.response_ids)
    found = logits[-count - 1 : -1].log_softmax(-1).gather(-1, ids[0, -count:, None]).mean()
    return torch.cat([g.flatten() for g in torch.autograd.grad(found, weights)])


def cosines(rows: Tensor, others: Tensor) -> Tensor:
    rows, others = (t / t.norm(dim=1, keepdim=True) for t in (rows, others))
    return rows @ others.T


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("learnt", [True, False])
def test_gradients_are_those_of_each_row_alone(name: str, learnt: bool) -> None:
    network, lora = network_of(name)
    adapted, held = adapter_on(network, lora, learnt=learnt)
    expected = torch.stack([by_peft(adapted, row) for row in ROWS])
    adapted.unload()
    found = PairGradients(network, lora, label="tiny", seed=0, adapter=held).gradients(ROWS)
    torch.testing.assert_close(found.norm(dim=1), expected.norm(dim=1), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(cosines(found, found), cosines(expected, expected), rtol=0, atol=1e-4)


def test_products_are_those_of_whole_gradients_of_length_one() -> None:
    network, lora = network_of("llama")
    made = PairGradients(network, lora, label="tiny", seed=0)
    gradients = made.gradients(ROWS)
    directions = torch.randn(2, gradients.shape[1], generator=torch.Generator().manual_seed(1))
    units = gradients / gradients.norm(dim=1, keepdim=True)
    torch.testing.assert_close(made.products(ROWS, directions), units @ directions.T, rtol=0, atol=1e-4)


def test_a_row_has_its_gradient_whatever_stands_beside_it() -> None:
    network, lora = network_of("llama")
    made = PairGradients(network, lora, label="tiny", seed=0)
    alone = torch.cat([made.gradients([row]) for row in ROWS])
    torch.testing.assert_close(made.gradients(ROWS), alone, rtol=0, atol=1e-5)


def test_a_beginning_that_can_not_be_shared_is_read_with_each_row() -> None:
    torch.manual_seed(5)
    config = MambaConfig(vocab_size=60, hidden_size=16, state_size=4, num_hidden_layers=2)
    network = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    made = PairGradients(network, LoraSettings(rank=3, targets=("in_proj",)), label="tiny", seed=0)
    whole = [Trajectory((), row.prefix_ids + row.prompt_ids, row.response_ids) for row in ROWS]
    found = made.gradients(ROWS)
    assert found.isfinite().all()
    torch.testing.assert_close(found, made.gradients(whole), rtol=0, atol=1e-5)


def test_a_layer_that_is_never_asked_is_named() -> None:
    network, _ = network_of("llama")
    network.model.layers[1].mlp.spare = torch.nn.Linear(16, 16)
    made = PairGradients(network, LoraSettings(rank=3, targets=("spare",)), label="tiny", seed=0)
    with pytest.raises(
        UsageError, match=r"never uses the layer model\.layers\.1\.mlp\.spare, so .*; remove spare from"
    ):
        made.gradients(ROWS)


def test_the_network_is_left_as_it_was() -> None:
    network, lora = network_of("llama")
    ids = torch.tensor([[1, 4, 9, 7]])
    before = network(input_ids=ids).logits
    PairGradients(network, lora, label="tiny", seed=0).gradients(ROWS)
    assert torch.equal(network(input_ids=ids).logits, before)
    assert not any(module._forward_hooks for module in network.modules())


def test_a_policy_on_the_same_network_changes_nothing_while_it_is_off() -> None:
    network, lora = network_of("llama")
    made = PairGradients(network, lora, label="tiny", seed=0)
    before = made.gradients(ROWS)
    adapted, _ = adapter_on(network, lora, learnt=True)
    with adapted.disable_adapter():
        torch.testing.assert_close(made.gradients(ROWS), before, rtol=0, atol=1e-6)


def test_the_seed_draws_the_adapter() -> None:
    network, lora = network_of("llama")
    one, same, other = (PairGradients(network, lora, label="tiny", seed=s).gradients(ROWS) for s in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.allclose(one, other)


def test_an_unknown_layer_is_named() -> None:
    network, _ = network_of("llama")
    with pytest.raises(UsageError, match="nowhere"):
        PairGradients(network, LoraSettings(targets=("nowhere",)), label="tiny", seed=0)


def test_a_gradient_that_is_not_finite_is_no_number() -> None:
    network, lora = network_of("llama")
    made = PairGradients(network, lora, label="tiny", seed=0)
    size = made.gradients(ROWS).shape[1]
    network.model.layers[1].mlp.down_proj.weight.fill_(float("inf"))
    assert made.products(ROWS, torch.ones(1, size)).isnan().all()
