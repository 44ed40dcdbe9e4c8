"""What a network's own ``generate`` may be given, found out by asking it once, on a few tokens.

A state reads padding like any token (RWKV), and positions or windows that are counted from a batch's first column move
with it (MPT, RecurrentGemma). Such networks get rows of one length alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from refine_af.errors import UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_STEPS = 2  # of decoding: one from the prompt, one from what was kept of it
_TAKES: WeakKeyDictionary[PreTrainedModel, bool] = WeakKeyDictionary()  # an adapter on a network changes none


def takes_padding(network: PreTrainedModel, sample: list[int], pad: int) -> bool:
    """Whether a row that is padded on the left is decoded as it is alone.

    Raises UsageError for a network whose ``generate`` fails, or gives other logits than its forward pass.
    """
    if network not in _TAKES:
        _TAKES[network] = _find_out(network, sample, pad)
    return _TAKES[network]


@torch.no_grad()
def _find_out(network: PreTrainedModel, sample: list[int], pad: int) -> bool:
    short = sample[: len(sample) // 2]
    name = type(network).__name__
    try:
        tokens, logits = _generated(network, [short], pad)
    except (AttributeError, LookupError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        problem = " ".join(str(error).split())[:120]
        raise UsageError(f"a {name} can't write here: its `generate` fails ({problem}); take another model") from None
    read = torch.tensor([short + tokens], device=network.device)
    expected = network(input_ids=read, use_cache=False).logits[0, len(short) - 1 :][: len(logits)]
    if not _alike(logits, expected):
        raise UsageError(f"a {name} can't write here: its `generate` and its forward pass differ; take another model")
    if "chunked_attention" in (getattr(network.config.get_text_config(), "layer_types", None) or ()):
        return False  # chunks are counted from the first column, and longer than a sample
    try:
        beside, padded = _generated(network, [[pad] * (len(sample) - len(short)) + short, sample], pad)
    except (AttributeError, LookupError, NotImplementedError, RuntimeError, TypeError, ValueError):
        return False
    same = next((i for i, (a, b) in enumerate(zip(tokens, beside, strict=False)) if a != b), len(tokens)) + 1
    return _alike(padded[:same], logits[:same])


def _generated(network: Any, rows: list[list[int]], pad: int) -> tuple[list[int], Tensor]:
    """Of the first row, which may be padded, the tokens that follow, and the logits (n, V) of their places."""
    ids = torch.tensor(rows, device=network.device)
    mask = torch.ones_like(ids)
    gap = next((i for i, token in enumerate(rows[0]) if token != pad), 0)
    mask[0, :gap] = 0
    made = network.generate(
        input_ids=ids,
        attention_mask=mask,
        max_new_tokens=_STEPS,
        do_sample=False,
        pad_token_id=pad,
        output_logits=True,
        return_dict_in_generate=True,
    )
    return made.sequences[0, ids.shape[1] :].tolist(), torch.stack([step[0] for step in made.logits])


def _alike(logits: Tensor, expected: Tensor) -> bool:
    allowed = 1e-4 if expected.dtype == torch.float32 else 0.1
    return bool((logits - expected).float().norm() <= allowed * expected.float().norm())
