"""Products in 8 bits: weights are rounded once, for each output; activations at each call, for each token.

A few inputs of a layer are a hundred times as large as the others, and would take all 255 steps for themselves. So
a part of what makes an input large is moved into its weights before either is rounded (SmoothQuant, Xiao et al. 2023,
equation 4 with alpha 0.5).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from refine_af.planning.hardware import INT8_FLAGS

_SMALLEST = 1e-5


@cache
def computes_int8() -> bool:
    """Whether the CPU has instructions for products of int8 numbers. Without these they are slow, and may overflow."""
    found: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # which older versions of torch don't tell
    return any(found.get(flag) for flag in INT8_FLAGS)


class Int8Product:
    """``x @ weight.T`` in int8, with both sides scaled to ±127 by their rows' greatest values.

    ``weight``: (out, in) in float32. ``largest``: (in,), how large each input gets.
    """

    def __init__(self, weight: Tensor, largest: Tensor) -> None:
        moved = (largest.clamp_min(_SMALLEST) / weight.abs().amax(0).clamp_min(_SMALLEST)).sqrt()
        rounded, scale = _rounded(weight * moved)
        self._weight = rounded.T  # (in, out), its columns contiguous
        self._scale = scale.squeeze(1)
        self._smaller = 1 / moved

    def __call__(self, x: Tensor) -> Tensor:
        """(n, out) of (n, in)."""
        rounded, scale = _rounded(x * self._smaller)
        return torch._int_mm(rounded, self._weight).float().mul_(self._scale).mul_(scale)


def _rounded(rows: Tensor) -> tuple[Tensor, Tensor]:
    """int8 (n, m) and the scale (n, 1) of each row; what is given is used up."""
    scale = rows.abs().amax(1, keepdim=True).clamp_min_(1e-30).mul_(1 / 127)
    return rows.div_(scale).round_().to(torch.int8), scale
