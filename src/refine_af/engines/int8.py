"""Linear layers in 8 bits: weights are rounded once, for each output; activations at each call, for each token.

A few inputs of a layer are a hundred times as large as the others, and would take all 255 steps for themselves. So
a part of what makes an input large is moved into its weights before either is rounded (SmoothQuant, Xiao et al. 2023,
equation 4 with alpha 0.5); how large inputs are is seen on one text that reads like our prompts.
"""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

_SMALLEST = 1e-5
SAMPLE = (
    "Write a short letter to a friend about the weather.\nInput: none\nOutput: Dear Anna, it has rained for 3 days, "
    "and the garden is under water. 12 + 7 = 19.\n\nInstruction: Translate the sentence into French, then classify "
    "it as positive or negative. def f(x): return x * 2  # double\n"
)


@cache
def computes_int8() -> bool:
    """Whether the CPU has instructions for products of int8 numbers. Without these they are slow, and may overflow."""
    found: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # which older versions of torch don't tell
    return bool(found.get("avx512_vnni") or found.get("avx_vnni") or found.get("amx_int8"))


class Int8Layers:
    """Linear layers that read the same input, computed as one: ``x @ weight.T`` in int8, with both sides scaled to ±127
    by their rows' greatest values.

    ``weight``: (out, in), of all layers one under another. ``largest``: (in,), how large each input gets.
    """

    def __init__(self, weight: Tensor, largest: Tensor) -> None:
        moved = (largest.float().clamp_min(_SMALLEST) / weight.abs().amax(0).clamp_min(_SMALLEST)).sqrt()
        rounded, scale = _rounded(weight * moved)
        self._weight = rounded.T  # (in, out), its columns contiguous
        self._scale = scale.squeeze(1)
        self._smaller = 1 / moved
        self._input: Tensor | None = None
        self._output: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """(n, out) of (n, in) in float32, kept for the layers that are asked of the same input next."""
        if x is not self._input or self._output is None:
            rounded, scale = _rounded(x.reshape(-1, x.shape[-1]) * self._smaller)
            self._output = torch._int_mm(rounded, self._weight).float().mul_(self._scale).mul_(scale)
            self._input = x
        return self._output

    def forget(self) -> None:
        self._input = self._output = None


class Int8Linear(nn.Module):
    """One of ``layers``: its outputs are ``place`` among theirs. Takes (..., in) and gives (..., out) in float32."""

    def __init__(self, layers: Int8Layers, place: slice, bias: Tensor | None, *, is_last: bool) -> None:
        super().__init__()
        self._layers = layers
        self._place = place
        self._is_last = is_last
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        out = self._layers(x)[:, self._place]
        if self._is_last:
            self._layers.forget()
        if self.bias is not None:
            out = out + self.bias
        return out.unflatten(0, x.shape[:-1])


def _rounded(rows: Tensor) -> tuple[Tensor, Tensor]:
    """int8 (n, m) and the scale (n, 1) of each row; what is given is used up."""
    scale = rows.abs().amax(1, keepdim=True).clamp_min_(1e-30).mul_(1 / 127)
    return rows.div_(scale).round_().to(torch.int8), scale


@torch.no_grad()
def int8_copy(network: Any, sample: Tensor) -> Any:
    """The network, with the adapter that is active on it, as one with linear layers in int8 and all else in float32.

    ``sample``: (1, T) ids of :data:`SAMPLE`. The original stays as it is; weights in float32 that aren't rounded are
    those of the original.
    """
    families = _families(network, sample)
    shared: dict[int, Any] = {id(one): one for one in network.buffers()}
    for one in network.parameters():
        shared[id(one)] = one if one.dtype == torch.float32 else nn.Parameter(one.float(), requires_grad=False)
    copy = deepcopy(network, shared)
    vars(copy).pop("forward", None)  # a trainer of TRL puts one there that would call the original's
    for names, largest in families:
        weights = [_weight(network.get_submodule(name)) for name in names]
        layers = Int8Layers(torch.cat([weight for weight, _ in weights]), largest)
        start = 0
        for name, (weight, bias) in zip(names, weights, strict=True):
            place = slice(start, start := start + len(weight))
            parent, _, child = name.rpartition(".")
            layer = Int8Linear(layers, place, bias, is_last=name == names[-1])
            setattr(copy.get_submodule(parent), child, layer)
    return copy.eval()


def _families(network: Any, sample: Tensor) -> list[tuple[list[str], Tensor]]:
    """The names of linear layers, those together that read the same tensor one after another; and the greatest
    absolute value of each input (in,) while the network reads the sample."""
    calls: list[tuple[str, Tensor]] = []
    adapted = tuple(f"{name}." for name, layer in network.named_modules() if isinstance(layer, BaseTunerLayer))
    linear = [
        (name, layer)
        for name, layer in network.named_modules()
        if isinstance(layer, (nn.Linear, BaseTunerLayer)) and not name.startswith(adapted)
    ]
    hooks = [
        layer.register_forward_pre_hook(lambda _, inputs, name=name: calls.append((name, inputs[0])))
        for name, layer in linear
    ]
    try:
        network(input_ids=sample, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    found: list[tuple[list[str], Tensor]] = []
    for (name, x), (_, before) in zip(calls, [("", None), *calls[:-1]], strict=True):
        if x is before:
            found[-1][0].append(name)
        else:
            found.append(([name], x.flatten(0, -2).abs().amax(0)))
    return found


def _weight(layer: Any) -> tuple[Tensor, Tensor | None]:
    """Of a linear layer, with its adapter merged if it is active."""
    if not isinstance(layer, BaseTunerLayer):
        return layer.weight, layer.bias
    base = layer.get_base_layer()
    weight = base.weight.float()
    if not layer.disable_adapters:
        weight = weight + sum(layer.get_delta_weight(one).float() for one in layer.active_adapters)
    return weight, base.bias
