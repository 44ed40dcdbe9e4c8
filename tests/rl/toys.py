"""A toy policy of one layer over twelve tokens, its trainer, and responses sampled from it at temperature 1."""

from __future__ import annotations

from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from refine_af.config import LoraSettings, PolicyConfig
from refine_af.rl.actor_critic import ActorCritic
from refine_af.rl.responses import Trajectory
from refine_af.rl.trainer import Trainer

VOCABULARY, LENGTH, END = 12, 8, 1
LORA = LoraSettings(rank=8, alpha=16, targets=("q_proj", "v_proj", "o_proj", "up_proj", "down_proj"))
CONFIG = PolicyConfig(
    rollouts=32,
    epochs=2,
    minibatch=16,
    micro_batch=16,
    learning_rate=1e-2,
    value_learning_rate=1e-2,
    kl_coefficient=0.0,
    lora=LORA,
)


def network() -> Any:
    torch.manual_seed(11)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=64,
        initializer_range=0.2,
        bos_token_id=0,
        eos_token_id=1,
        tie_word_embeddings=False,
    )
    return LlamaForCausalLM(config).eval().requires_grad_(False)


def trainer(config: PolicyConfig = CONFIG, seed: int = 0) -> Trainer:
    return Trainer(actor_of(config, seed), config, seed)


def actor_of(config: PolicyConfig, seed: int, temperature: float = 1.0) -> ActorCritic:
    critic = config.critic if config.has_critic else None
    return ActorCritic(network(), config.lora, temperature=temperature, label="toy", seed=seed, critic=critic)


@torch.no_grad()
def sampled(
    ppo: Trainer, generator: torch.Generator, length: int = LENGTH, each: int = 1, *, ends: bool = True
) -> list[Trajectory]:
    """Responses of the policy as it is now, at temperature 1, to prompts of one random token behind a shared prefix,
    ``each`` of them to a prompt. ``ends``: whether the end token ends one."""
    count = CONFIG.rollouts
    own = torch.randint(2, 9, (count // each, 1), generator=generator).repeat_interleave(each, 0)
    ids = new = torch.cat([torch.zeros_like(own), own], 1)
    seen: Any = None
    for _ in range(length):
        found = ppo.actor.policy(input_ids=new, past_key_values=seen, use_cache=True)
        seen, probs = found.past_key_values, torch.softmax(found.logits[:, -1], -1)
        new = torch.multinomial(probs, 1, generator=generator)
        ids = torch.cat([ids, new], 1)
    return [Trajectory((0,), (row[1],), _ended(row[2:]) if ends else tuple(row[2:])) for row in ids.tolist()]


def _ended(ids: list[int]) -> tuple[int, ...]:
    """Up to and with the end token."""
    return tuple(ids[: ids.index(END) + 1] if END in ids else ids)
