"""What a training example would change in a model: gradients of many examples at once, each apart.

The parameters are those of low-rank adapters on some linear layers, as fine-tuning puts them there. Of a layer
y = W x + s B A x the gradients of one example are sums over its tokens of products of what goes into the layer and
what comes back to its output:

    dB = s Σ_t g_t (A x_t)ᵀ        dA = s Σ_t (Bᵀ g_t) x_tᵀ        g_t = ∂ objective / ∂ y_t

So one forward and one backward pass over a batch gives them for each of its rows, and no weight of the model needs a
gradient of its own (ghost clipping, Li et al. 2021, arXiv 2110.05679; In-Run Data Shapley, arXiv 2406.11011).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from refine_af.batching import alike
from refine_af.config import LoraSettings
from refine_af.errors import UsageError
from refine_af.lora import adaptable_layers, linear_layers, untouched
from refine_af.models import check_targets
from refine_af.rl.responses import Beginnings, ResponseReader, Trajectory

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_NOT_COMPUTED = "the reward (or its check) can't be computed"
_TOKENS_AT_ONCE = 1024  # in a batch, with its padding: what is kept for the backward pass grows with it


@dataclass
class _Layer:
    """A watched layer with its adapter: ``a`` (r, in), ``b`` (out, r) or None while it is all zeros."""

    name: str
    module: nn.Module
    a: Tensor
    b: Tensor | None
    scale: float
    inputs: list[Tensor] = field(default_factory=list)
    probes: list[Tensor] = field(default_factory=list)

    def __call__(self, module: nn.Module, given: tuple[Any, ...], output: Tensor) -> Tensor:
        """A forward hook. The probe is a zero whose gradient is that of the output."""
        x = given[0]
        if self.b is not None:
            output = output + (x.float() @ self.a.T @ self.b.T * self.scale).to(output.dtype)
        if torch.is_grad_enabled():
            if x.dim() != 3:
                raise UsageError(
                    f"{_NOT_COMPUTED} with an adapter on the layer {self.name}; remove {_target(self.name)}"
                )
            self.inputs.append(x.detach())
            self.probes.append(torch.zeros_like(output, requires_grad=True))
            output = output + self.probes[-1]
        return output

    def gradients(self, slopes: Sequence[Tensor]) -> Tensor:
        """(B, p) in float32 out of the probes' gradients, of all times that the layer was asked."""
        found: list[Tensor] = []
        for x, g in zip(self.inputs, slopes, strict=True):
            x, g = x.float(), g.float()
            parts = [g.transpose(1, 2) @ (x @ self.a.T)]  # (B, out, r)
            if self.b is not None:
                parts.append((g @ self.b).transpose(1, 2) @ x)  # (B, r, in)
            found.append(torch.cat([part.flatten(1) for part in parts], 1))
        return self.scale * torch.stack(found).sum(0)


class PairGradients:
    """Gradients of rows' log-probabilities, each row's apart, at ``network`` with adapters of its own on it.

    The adapters are there while rows are read, and any other that the network has is off. What all prompts begin with
    is read once, and no gradient goes through it. ``adapter``: of each layer's full name (a, b) of a student that has
    learnt; without it ``a`` is drawn by the seed, as LoRA begins, and b is zero.

    Raises UsageError for targets that the network has not, and for a network whose layers can't be watched.
    """

    def __init__(
        self,
        network: PreTrainedModel,
        lora: LoraSettings,
        *,
        label: str,
        seed: int,
        adapter: dict[str, tuple[Tensor, Tensor]] | None = None,
    ) -> None:
        check_targets("finetune.lora", lora.targets, adaptable_layers(network), label)
        self._network = network
        with untouched(network):
            self._reader = ResponseReader(
                network,
                temperature=1.0,
                refusal=f"the scorer influence can't read with {label}: the log-probabilities that it finds are not "
                f"those of a {type(network).__name__}; take another scorer",
            )
        self._beginnings: Beginnings = {}
        drawn = torch.Generator().manual_seed(seed)
        self._layers = []
        for name, module in linear_layers(network).items():
            if name.rsplit(".", 1)[-1] not in lora.targets:
                continue
            if adapter is None:
                wide = _input_width(module)
                a, b = torch.randn(lora.rank, wide, generator=drawn) / wide**0.5, None
            else:
                a, b = adapter[name]
            a, b = (None if t is None else t.to(network.device, torch.float32) for t in (a, b))
            self._layers.append(_Layer(name, module, a, b, lora.alpha / lora.rank))

    def gradients(self, rows: Sequence[Trajectory]) -> Tensor:
        """(n, p) in float32, on the CPU: of each row's log-probability, the mean over its tokens."""
        return self.gradients_of_beginnings(rows, [[len(one.response_ids) for one in rows]])[0]

    def gradients_of_beginnings(self, rows: Sequence[Trajectory], counts: Sequence[Sequence[int]]) -> Tensor:
        """(k, n, p) in float32, on the CPU: of the log-probabilities of the rows' first tokens, as many of each as
        ``counts`` (k, n) says, their mean. The forward pass is one for all k."""
        found = [torch.empty(0)] * len(rows)
        for places, parts in self._batches(rows, counts):
            for place, row in zip(places, torch.cat(list(parts), 2).cpu().unbind(1), strict=True):
                found[place] = row
        return torch.stack(found, 1)

    def products(self, rows: Sequence[Trajectory], directions: Tensor) -> Tensor:
        """(n, k): of each row's gradient, of length 1, with each of ``directions`` (k, p).

        No row's whole gradient is ever held. A gradient that is zero has no direction: its products are 0.
        """
        found = torch.zeros(len(rows), len(directions))
        directions = directions.to(self._network.device)
        for places, parts in self._batches(rows, [[len(one.response_ids) for one in rows]]):
            squares = torch.zeros(len(places), device=directions.device)
            products = torch.zeros(len(places), len(directions), device=directions.device)
            start = 0
            for (part,) in parts:  # (B, p of the layer)
                squares += part.square().sum(1)
                products += part @ directions[:, start : start + part.shape[1]].T
                start += part.shape[1]
            lengths = torch.where(squares == 0, 1, squares.sqrt())
            found[places] = (products / lengths[:, None]).cpu()
        return found

    def _batches(
        self, rows: Sequence[Trajectory], counts: Sequence[Sequence[int]]
    ) -> Iterator[tuple[list[int], Iterator[Tensor]]]:
        """Places of rows, and their gradients (k, B, p) layer by layer."""
        rows = self._reader.as_read(rows)
        lengths = [len(one.prompt_ids) + len(one.response_ids) for one in rows]
        groups: dict[tuple[int, ...], list[int]] = {}
        for place, one in enumerate(rows):
            groups.setdefault(one.prefix_ids, []).append(place)
        for prefix, members in groups.items():
            for batch in alike([lengths[i] for i in members], len(members), _TOKENS_AT_ONCE):
                places = [members[k] for k in batch]
                means = torch.stack([_means([rows[i] for i in places], [of[i] for i in places]) for of in counts])
                with self._watched():
                    yield places, self._layer_gradients(prefix, [rows[i] for i in places], means)

    def _layer_gradients(self, prefix: tuple[int, ...], rows: Sequence[Trajectory], means: Tensor) -> Iterator[Tensor]:
        """(k, B, p) of each layer, for sums of the rows' log-probabilities by ``means`` (k, N)."""
        with torch.no_grad():
            if prefix and prefix not in self._beginnings:
                self._beginnings[prefix] = self._reader.beginning(prefix)
        with torch.enable_grad():
            states = self._reader.batch_states(rows, self._beginnings.get(prefix))
            log_probs = self._reader.figures(states, rows).log_probs
            unseen = [layer.name for layer in self._layers if not layer.probes]
            if unseen:
                raise UsageError(
                    f"the model never uses the layer {unseen[0]}, so {_NOT_COMPUTED}; remove {_target(unseen[0])}"
                )
            probes = [probe for layer in self._layers for probe in layer.probes]
            objectives = (means.to(log_probs.device) * log_probs).sum(1)
            last = len(objectives) - 1
            slopes = [
                iter(torch.autograd.grad(one, probes, retain_graph=place < last))
                for place, one in enumerate(objectives)
            ]
        for layer in self._layers:
            yield torch.stack([layer.gradients([next(of) for _ in layer.probes]) for of in slopes])

    @contextmanager
    def _watched(self) -> Iterator[None]:
        hooks = [layer.module.register_forward_hook(layer) for layer in self._layers]
        try:
            with untouched(self._network):
                yield
        finally:
            for hook in hooks:
                hook.remove()
            for layer in self._layers:
                layer.inputs.clear()
                layer.probes.clear()


def _means(rows: Sequence[Trajectory], counts: Sequence[int]) -> Tensor:
    """(N,): what each token counts in its row's mean over its first tokens."""
    parts = [
        (torch.arange(len(one.response_ids)) < count).float() / count for one, count in zip(rows, counts, strict=True)
    ]
    return torch.cat(parts)


def _target(layer: str) -> str:
    name = layer.rsplit(".", 1)[-1]
    return f"{name} from finetune.lora.targets, or change feedback.name and policy.guards.witness"


def _input_width(module: nn.Module) -> int:
    """Of a linear layer, or of GPT-2's, whose weights lie the other way."""
    return module.in_features if isinstance(module, nn.Linear) else module.weight.shape[0]
