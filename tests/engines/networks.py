"""Tiny random networks of any architecture, and what a plain loop over one writes."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForCausalLM

VOCABULARY = 60
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
TRIAL = [5, 9, 3, 33, 8, 21, 4, 17, 50, 11, 7, 13]


def network_of(config: Any, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    network = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for one in network.parameters():
            one.normal_(0, 0.3)  # as it is made, it would write the same token again and again
    return network


def alone(network: Any, tokens: list[int], most: int) -> list[int]:
    """What a plain loop over the network writes greedily."""
    written: list[int] = []
    while len(written) < most and 2 not in written:
        with torch.no_grad():
            written.append(int(network(input_ids=torch.tensor([tokens + written])).logits[0, -1].argmax()))
    return written
