"""The policy that is trained is the network's own: log-probabilities are those of its forward pass, whatever stands
behind its output layer, and gradients too. What can't be found is refused by name."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_sizes import SIZES
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    Gemma2Config,
    GPT2Config,
    GraniteConfig,
    LlamaConfig,
    MambaConfig,
    OPTConfig,
    Qwen3_5TextConfig,
    Qwen3MoeConfig,
)

from refine_af.config import LoraSettings
from refine_af.errors import UsageError
from refine_af.rl import responses
from refine_af.rl.actor_critic import ActorCritic
from refine_af.rl.responses import Trajectory

OWN = ["granite", "cohere", "gemma2", "llama", "qwen3_moe"]
CONFIGS: dict[str, Any] = {
    "granite": GraniteConfig(**SIZES, logits_scaling=8.0),
    "cohere": CohereConfig(**SIZES, logit_scale=0.0625),
    "gemma2": Gemma2Config(**SIZES, final_logit_softcapping=2.0),
    "llama": LlamaConfig(**SIZES),
    "qwen3_moe": Qwen3MoeConfig(**SIZES, num_experts=2, num_experts_per_tok=1, moe_intermediate_size=8),
    "opt": OPTConfig(vocab_size=60, hidden_size=16, ffn_dim=24, num_hidden_layers=2, num_attention_heads=4),
    "qwen3_5": Qwen3_5TextConfig(
        **SIZES,
        linear_num_key_heads=2,
        linear_num_value_heads=2,
        linear_key_head_dim=4,
        linear_value_head_dim=4,
        layer_types=["linear_attention", "full_attention"],
    ),
    "mamba": MambaConfig(vocab_size=60, hidden_size=16, state_size=4, num_hidden_layers=2),
}
TEMPERATURE = 0.8
ROWS = [
    Trajectory((9, 30, 50, 11), (40, 51), (20, 19, 10, 7, 15)),
    Trajectory((9, 30, 50, 11), (4,), (33, 8)),
    Trajectory((), (5, 6, 7), (44, 45, 46)),
]


def network_of(name: str) -> Any:
    torch.manual_seed(0)
    network = AutoModelForCausalLM.from_config(CONFIGS[name]).eval().requires_grad_(False)
    for one in network.parameters():
        one.normal_(0, 0.3)
    return network


def actor_of(name: str, network: Any) -> ActorCritic:
    targets = ("x_proj",) if name == "mamba" else ("q_proj", "v_proj")
    lora = LoraSettings(rank=4, alpha=8, targets=targets)
    actor = ActorCritic(network, lora, temperature=TEMPERATURE, label=name, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for one in actor.adapter_parameters():
            one.copy_(torch.randn(one.shape, generator=generator) * 0.3)
    return actor


def by_the_network(actor: ActorCritic) -> torch.Tensor:
    found = []
    for one in ROWS:
        row = one.prefix_ids + one.prompt_ids + one.response_ids
        count = len(one.response_ids)
        logits = actor.policy(input_ids=torch.tensor([row])).logits[0, -count - 1 : -1]
        found.append((logits / TEMPERATURE).log_softmax(-1)[range(count), list(one.response_ids)])
    return torch.cat(found)


@pytest.mark.parametrize("name", CONFIGS)
def test_log_probabilities_and_gradients_are_those_of_the_forward_pass(name: str) -> None:
    network = network_of(name)
    actor = actor_of(name, network)
    found, expected = actor.evaluate(ROWS).log_probs, by_the_network(actor)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    ours, theirs = (torch.autograd.grad(one.sum(), actor.adapter_parameters()) for one in (found, expected))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)
    assert not any("forward" in vars(module) for module in network.modules())


@pytest.mark.parametrize("name", OWN)
def test_a_shared_beginning_is_computed_once_where_its_state_can_be_copied(name: str) -> None:
    assert actor_of(name, network_of(name))._reader.shares


def test_a_forward_pass_that_a_library_put_there_stays() -> None:
    network = network_of("llama")
    given = network.model.forward
    network.model.forward = lambda *args, **kwargs: given(*args, **kwargs)
    before = vars(network.model)["forward"]
    actor = actor_of("llama", network)
    torch.testing.assert_close(actor.evaluate(ROWS).log_probs, by_the_network(actor), atol=1e-4, rtol=1e-4)
    assert vars(network.model)["forward"] is before


def test_a_network_whose_log_probabilities_are_not_found_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responses, "possible_heads", lambda network: [])
    with pytest.raises(UsageError, match=r"the policy stage can.t train granite: .* GraniteForCausalLM"):
        actor_of("granite", network_of("granite"))


def test_layers_that_come_as_no_linear_ones_are_named() -> None:
    network = AutoModelForCausalLM.from_config(GPT2Config(vocab_size=60, n_embd=16, n_layer=1, n_head=2))
    with pytest.raises(UsageError, match=r"lora\.targets"):
        actor_of("gpt2", network)
