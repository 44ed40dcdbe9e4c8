"""A copy of a network that is made for reading: linear layers that read the same input are computed as one, their
adapters merged, in a form that :mod:`int8 <refine_af.engines.int8>` or :mod:`packed <refine_af.engines.packed>` makes
of their weights."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from refine_af.lora import is_router

SAMPLE = (
    "Write a short letter to a friend about the weather.\nInput: none\nOutput: Dear Anna, it has rained for 3 days, "
    "and the garden is under water. 12 + 7 = 19.\n\nInstruction: Translate the sentence into French, then classify "
    "it as positive or negative. def f(x): return x * 2  # double\n"
)

Product = Callable[[Tensor], Tensor]  # (n, out) in float32 of (n, in) in float32
# A product out of weights (out, in) in float32, and of how large each of its inputs gets (in,).
MakeProduct = Callable[[Tensor, Tensor], Product]


class FusedLayers:
    """What several layers need of one product: its output is kept for those that are asked of the same input next."""

    def __init__(self, product: Product) -> None:
        self._product = product
        self._input: Tensor | None = None
        self._output: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """(n, out) of (..., in)."""
        if x is not self._input or self._output is None:
            self._output = self._product(x.reshape(-1, x.shape[-1]))
            self._input = x
        return self._output

    def forget(self) -> None:
        self._input = self._output = None


class FusedLinear(nn.Module):
    """One of ``layers``: its outputs are ``place`` among theirs. Takes (..., in) and gives (..., out) in float32."""

    def __init__(self, layers: FusedLayers, place: slice, bias: Tensor | None, *, is_last: bool) -> None:
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


@torch.no_grad()
def fused_copy(network: Any, sample: Tensor, make: MakeProduct) -> Any:
    """The network, with the adapter that is active on it, as one whose linear layers are products that ``make`` makes,
    with all else in float32. Not to be trained.

    ``sample``: (1, T) ids of :data:`SAMPLE`, which reads like our prompts. The original stays as it is; what is no
    linear layer and in float32 is that of the original.
    """
    families = _families(network, sample)
    shared: dict[int, Any] = {id(one): one for one in network.buffers()}
    for one in network.parameters():
        shared[id(one)] = one if one.dtype == torch.float32 else nn.Parameter(one.float(), requires_grad=False)
    copy = deepcopy(network, shared)
    vars(copy).pop("forward", None)  # a trainer of TRL puts one there that would call the original's
    for names, largest in families:
        weights = [_weight(network.get_submodule(name)) for name in names]
        layers = FusedLayers(make(torch.cat([weight.float() for weight, _ in weights]), largest))
        start = 0
        for name, (weight, bias) in zip(names, weights, strict=True):
            place = slice(start, start := start + len(weight))
            parent, _, child = name.rpartition(".")
            layer = FusedLinear(layers, place, bias, is_last=name == names[-1])
            setattr(copy.get_submodule(parent), child, layer)
    return copy.eval()


def _families(network: Any, sample: Tensor) -> list[tuple[list[str], Tensor]]:
    """The names of linear layers, those together that read the same tensor one after another; and the greatest
    absolute value of each input (in,) while the network reads the sample."""
    calls: list[tuple[str, Tensor]] = []
    adapted = tuple(f"{name}." for name, layer in network.named_modules() if isinstance(layer, BaseTunerLayer))
    linear = [
        (name, layer) for name, layer in network.named_modules() if _is_linear(layer) and not name.startswith(adapted)
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
            found.append(([name], x.flatten(0, -2).float().abs().amax(0)))
    return found


def _is_linear(layer: nn.Module) -> bool:
    """An adapter on a layer of another kind stays as it is."""
    base = layer.get_base_layer() if isinstance(layer, BaseTunerLayer) else layer
    return isinstance(base, nn.Linear) and not is_router(base)


def _weight(layer: Any) -> tuple[Tensor, Tensor | None]:
    """Of a linear layer, with its adapter merged if it is active."""
    if not isinstance(layer, BaseTunerLayer):
        return layer.weight, layer.bias
    if not layer.disable_adapters:
        layer = deepcopy(layer).float()
        layer.merge()
    base = layer.get_base_layer()
    return base.weight, base.bias
