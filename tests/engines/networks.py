"""Tiny random networks of any architecture, and what a plain loop over one writes."""

from __future__ import annotations

from typing import Any

import torch
from tiny_sizes import SIZES, VOCABULARY
from transformers import AutoModelForCausalLM

__all__ = ["SIZES", "TRIAL", "VOCABULARY", "alone", "network_of"]

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
