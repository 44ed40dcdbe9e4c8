"""Which token comes next: greedy, or sampled with a temperature, from the likeliest k, from a nucleus."""

from __future__ import annotations

import torch
from torch import Tensor

from refine_af.config import SamplingConfig


def next_tokens(logits: Tensor, sampling: SamplingConfig, generator: torch.Generator) -> Tensor:
    """(N,) out of logits (N, V) in float32."""
    if sampling.temperature == 0:
        return logits.argmax(-1)
    places = None
    if 0 < sampling.top_k < logits.shape[1]:
        logits, places = logits.topk(sampling.top_k)
    heights = (logits - logits.amax(-1, keepdim=True)).div_(sampling.temperature).exp_()
    drawn = _from_nucleus(heights, sampling.top_p, generator)
    return drawn if places is None else places.gather(-1, drawn[:, None]).squeeze(-1)


def _from_nucleus(heights: Tensor, mass: float, generator: torch.Generator) -> Tensor:
    """(N,) places in chances (N, V) that need not sum to 1; a place counts if all that are higher have less than the
    mass together.

    Drawn from all and drawn again where the place doesn't count, which gives the nucleus its very distribution and
    spares the sorting of V chances, dearer than a step of a small network.
    """
    drawn, counts = _drawn(heights, mass, generator)
    while not counts.all():
        again = (~counts).nonzero().squeeze(1)
        drawn[again], counts[again] = _drawn(heights[again], mass, generator)
    return drawn


def _drawn(heights: Tensor, mass: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A place (N,) out of all, and whether it counts (N,)."""
    sums = heights.cumsum(-1)
    total = sums[:, -1:]
    where = torch.rand(total.shape, generator=generator, device=heights.device) * total
    places = torch.searchsorted(sums, where, right=True).clamp_(max=heights.shape[1] - 1)
    if mass == 1:
        return places.squeeze(1), torch.ones(len(heights), dtype=torch.bool, device=heights.device)
    higher = torch.where(heights > heights.gather(1, places), heights, 0).sum(-1)
    return places.squeeze(1), higher < mass * total.squeeze(1)


def penalised(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Logits (N, V) with those of ``seen`` tokens (N, V) made less likely (Keskar et al. 2019)."""
    return torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)
