"""Products in float32 whose weights lie in memory as oneDNN reads them fastest.

A plain product arranges its weights anew at each call, which for the few rows of a decoding step takes as long as
the product. The sums are the same, to the last digits.
"""

from __future__ import annotations

import platform
from functools import cache

import torch
from torch import Tensor


@cache
def can_pack() -> bool:
    """Whether torch has oneDNN's products, on a processor on which they were measured to be quicker."""
    return platform.machine() in ("x86_64", "AMD64") and torch.backends.mkldnn.is_available()


class PackedProduct:
    """``x @ weight.T``. ``weight``: (out, in) in float32. How large inputs get says nothing here."""

    def __init__(self, weight: Tensor, largest: Tensor) -> None:
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, None)

    def __call__(self, x: Tensor) -> Tensor:
        """(n, out) of (n, in)."""
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, None, "none", [], "")
        return product
