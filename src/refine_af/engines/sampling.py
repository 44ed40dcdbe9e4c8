"""Which token comes next: greedy, or sampled with a temperature, from the likeliest k, from a nucleus."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

import torch
from torch import Tensor

from refine_af.config import SamplingConfig


def next_tokens(logits: Tensor, sampling: SamplingConfig, states: Tensor) -> Tensor:
    """(N,) out of logits (N, V) in float32. ``states`` (N,) in int64: of each row, from which it draws."""
    if sampling.temperature == 0:
        return logits.argmax(-1)
    places = None
    if 0 < sampling.top_k < logits.shape[1]:
        logits, places = logits.topk(sampling.top_k)
    heights = (logits - logits.amax(-1, keepdim=True)).div_(sampling.temperature).exp_()
    drawn = _from_nucleus(heights, sampling.top_p, states)
    return drawn if places is None else places.gather(-1, drawn[:, None]).squeeze(-1)


def state(stream: int, step: int) -> int:
    """What a row draws from at a step, as int64. Every row has a stream of its own, so what it draws depends neither on
    the rows beside it nor on the process that it is in."""
    return _signed(stream + step * _DRAWS_A_STEP * _GOLDEN)


def uniform(states: Tensor, number: int) -> Tensor:
    """(N,) in [0, 1), multiples of 2^-24: of each state its draw of that number, from 0 on. SplitMix64 (Steele, Lea and
    Flood 2014, doi 10.1145/2660193.2660195)."""
    mixed = states + _signed((number + 1) * _GOLDEN)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ _shifted(mixed, shift)) * _signed(factor)
    return _shifted(mixed ^ _shifted(mixed, 31), 40).float() * 2.0**-24


_GOLDEN = 0x9E3779B97F4A7C15  # 2^64 over the golden ratio, odd
_DRAWS_A_STEP = 2**20


def _signed(number: int) -> int:
    """Of the lowest 64 bits, as int64 has them."""
    return (number + 2**63) % 2**64 - 2**63


def _shifted(numbers: Tensor, by: int) -> Tensor:
    """To the right, with zeros from the left."""
    return (numbers >> by) & (2 ** (64 - by) - 1)


def _from_nucleus(heights: Tensor, mass: float, states: Tensor) -> Tensor:
    """(N,) places in chances (N, V) that need not sum to 1; a place counts if all that are higher have less than the
    mass together.

    Drawn from all and drawn again where the place doesn't count, which gives the nucleus its very distribution and
    spares the sorting of V chances, dearer than a step of a small network.
    """
    drawn, counts = _drawn(heights, mass, uniform(states, 0))
    for number in count(1):
        if counts.all():
            break
        again = (~counts).nonzero().squeeze(1)
        drawn[again], counts[again] = _drawn(heights[again], mass, uniform(states[again], number))
    return drawn


def _drawn(heights: Tensor, mass: float, where: Tensor) -> tuple[Tensor, Tensor]:
    """A place (N,) out of all, and whether it counts (N,). ``where`` (N,) in [0, 1)."""
    sums = heights.cumsum(-1)
    total = sums[:, -1:]
    places = torch.searchsorted(sums, where[:, None] * total, right=True).clamp_(max=heights.shape[1] - 1)
    if mass == 1:
        return places.squeeze(1), torch.ones(len(heights), dtype=torch.bool, device=heights.device)
    higher = torch.where(heights > heights.gather(1, places), heights, 0).sum(-1)
    return places.squeeze(1), higher < mass * total.squeeze(1)


class Seen:
    """Which tokens stand in each of at most ``rows`` rows, called by a number."""

    def __init__(self, rows: int, vocabulary: int, device: torch.device) -> None:
        self._table = torch.zeros(rows, vocabulary, dtype=torch.bool, device=device)
        self._free = list(range(rows))
        self._slots: dict[int, int] = {}

    def put(self, row: int, tokens: list[int]) -> None:
        slot = self._slots[row] = self._free.pop()
        self._table[slot] = False
        self._table[slot, tokens] = True

    def add(self, rows: Sequence[int], tokens: Tensor) -> None:
        """One token (N,) to each row."""
        self._table[self._of(rows), tokens] = True

    def remove(self, row: int) -> None:
        self._free.append(self._slots.pop(row))

    def of(self, rows: Sequence[int]) -> Tensor:
        """(N, V)"""
        return self._table[self._of(rows)]

    def _of(self, rows: Sequence[int]) -> Tensor:
        return torch.tensor([self._slots[row] for row in rows], device=self._table.device)


def penalised(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Logits (N, V) with those of ``seen`` tokens (N, V) made less likely (Keskar et al. 2019)."""
    return torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)
