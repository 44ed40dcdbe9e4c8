"""From a network's last hidden states to its logits, as its own forward pass goes.

Some networks scale their logits (Granite, Cohere) or cap them (Gemma 2) behind the output layer: that layer alone would
give the log-probabilities of another policy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPast


@dataclass(frozen=True, slots=True)
class Head:
    """``logits``: (n, V) out of states (n, H)."""

    logits: Callable[[Tensor], Tensor]
    vocabulary: int


def possible_heads(network: Any) -> Iterator[Head]:
    """What may be the way from states to logits, the likeliest first; which of them it is, a trial tells."""
    layer = network.get_output_embeddings()
    vocabulary = layer.weight.shape[0]
    yield Head(partial(_own_logits, network), vocabulary)
    yield Head(layer, vocabulary)  # for a forward pass that asks parts of its decoder, not the decoder


def decoder_of(network: Any) -> Any:
    """The layers of a causal network, without what makes logits of their states: its part that holds the embeddings,
    which not every network calls as its class says."""
    embeddings = network.get_input_embeddings()
    return next(part for part in network.children() if any(one is embeddings for one in part.modules()))


def _own_logits(network: Any, states: Tensor) -> Tensor:
    tokens = torch.zeros(1, len(states), dtype=torch.long, device=states.device)  # nobody looks at them
    with _computes(decoder_of(network), states[None]):
        logits: Tensor = network(input_ids=tokens, use_cache=False).logits[0]
    return logits


class _Given(BaseModelOutputWithPast):
    """What a decoder gives, with nothing but states in it: a forward pass hands the rest on."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


@contextmanager
def _computes(decoder: Any, states: Tensor) -> Iterator[None]:
    """While it lasts, the decoder gives ``states`` (1, n, H), whatever it is asked."""
    own = vars(decoder)
    before = own.get("forward")  # which a library may have put there
    decoder.forward = lambda *_, **__: _Given(last_hidden_state=states)
    try:
        yield
    finally:
        del own["forward"]
        if before is not None:
            own["forward"] = before
