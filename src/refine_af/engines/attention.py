"""Attention over rows that share beginnings: a beginning's keys and values stand once, and each step reads them once.

All tokens of a forward pass stand one behind another in a single row, whatever texts they belong to, so that nothing
is computed for padding. What a token sees is decided here alone, by the layout that is passed with the forward pass.

Shapes: N tokens of the pass, H query heads, K key heads, D their size, P tokens of a beginning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import AttentionInterface

from refine_af.batching import alike
from refine_af.engines.rows import Beginning

IMPLEMENTATION = "refine_af_shared_beginnings"


class Layout(Protocol):
    """What the tokens of a forward pass see, and where their keys and values are kept."""

    def attend(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
        """(N, H, D) out of queries (N, H, D), keys and values (N, K, D)."""
        ...


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    *,
    layout: Layout,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """As transformers calls it: (1, H, N, D) and (1, K, N, D) in, (1, N, H, D) out. A window is left to who asks for no
    more tokens than it holds. Raises TypeError where scores are to be capped, or to be shared with sinks."""
    if softcap is not None or s_aux is not None:
        raise TypeError(f"{type(module).__name__} asks for another attention")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    queries, keys, values = (one[0].transpose(0, 1) for one in (query, key, value))
    return layout.attend(module.layer_idx, queries, keys, values, scale)[None], None


# Without a mask function of that name, for which transformers would look at the positions in each pass.
AttentionInterface.register(IMPLEMENTATION, _attention)


class Keeper(Protocol):
    """Takes a segment's keys and values of a layer, both (K, n, D)."""

    def keep(self, layer: int, keys: Tensor, values: Tensor) -> None: ...


@dataclass
class Segment:
    """A piece of a text in a pass over prompts: ``start`` is its first token's place, ``behind`` what it goes on from,
    ``keeper`` takes its keys and values, where somebody needs them later."""

    start: int
    tokens: list[int]
    behind: Beginning | None
    keeper: Keeper | None

    @property
    def stop(self) -> int:
        return self.start + len(self.tokens)

    @property
    def place(self) -> slice:
        return slice(self.start, self.stop)

    def positions(self) -> range:
        before = self.behind.stop if self.behind else 0
        return range(before, before + len(self.tokens))


class PromptsLayout:
    """Every segment sees itself up to each token, and all that it goes on from. What goes on from a beginning, directly
    or further on, is best in one stretch: the beginning is read once for each."""

    def __init__(self, segments: Sequence[Segment], device: torch.device) -> None:
        self._segments = segments
        self._device = device
        self._kept = [(segment.place, segment.keeper) for segment in segments if segment.keeper is not None]
        self._followers = _followers(segments)

    def attend(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
        for place, keeper in self._kept:
            keeper.keep(layer, keys[place].transpose(0, 1), values[place].transpose(0, 1))
        each = self._one_by_one if has_fused_kernel(self._device) else self._in_batches
        out, total = each(queries, keys, values, scale)
        for beginning, place in self._followers:
            grouped = _by_key_head(queries[place], keys.shape[1])[None]  # (1, K, G * n, D)
            theirs, their_total = attended(
                grouped, beginning.keys[layer][None], beginning.values[layer][None], None, scale
            )
            count = place.stop - place.start
            also, also_total = _by_token(theirs[0], count), _by_token(their_total[0], count)
            out[place] = put_together(out[place], total[place], also, also_total)
            total[place] = torch.logaddexp(total[place], also_total)
        return out

    def _one_by_one(self, queries: Tensor, keys: Tensor, values: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        out, total = torch.empty_like(queries), torch.empty(queries.shape[:2])
        keys, values = _for_each_head(queries, keys, values)
        for segment in self._segments:
            place = segment.place
            q, k, v = (one[None, place].transpose(1, 2) for one in (queries, keys, values))
            its_out, its_total = attended(q, k, v, None, scale, causal=True)
            out[place], total[place] = its_out[0].transpose(0, 1), its_total[0].transpose(0, 1)
        return out, total

    def _in_batches(self, queries: Tensor, keys: Tensor, values: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """With padding behind each segment, which nothing sees: fewer operations to ask a device for."""
        batches, back = self._batches
        keys, values = _for_each_head(queries, keys, values)
        made = []
        for places in batches:  # (B, L)
            q, k, v = (one[places].transpose(1, 2) for one in (queries, keys, values))
            out, total = attended(q, k, v, None, scale, causal=True)
            made.append((out.transpose(1, 2).flatten(0, 1), total.transpose(1, 2).flatten(0, 1)))
        return torch.cat([out for out, _ in made])[back], torch.cat([total for _, total in made])[back]

    @cached_property
    def _batches(self) -> tuple[list[Tensor], Tensor]:
        """The places (B, L) of the tokens of each batch, and where each of the pass's tokens stands in them."""
        batches: list[Tensor] = []
        first: dict[int, int] = {}  # of each segment, among all tokens of all batches
        computed = 0
        for some in alike([len(segment.tokens) for segment in self._segments], len(self._segments)):
            longest = len(self._segments[some[0]].tokens)
            places = []
            for i in some:
                place = self._segments[i].place
                padding = longest - len(self._segments[i].tokens)
                places.append([*range(place.start, place.stop), *[place.start] * padding])
                first[i] = computed
                computed += longest
            batches.append(torch.tensor(places, device=self._device))
        back = [first[i] + n for i, segment in enumerate(self._segments) for n in range(len(segment.tokens))]
        return batches, torch.tensor(back, device=self._device)


def _followers(segments: Sequence[Segment]) -> list[tuple[Beginning, slice]]:
    """Each beginning that isn't empty, with a stretch of tokens that all go on from it."""
    found: list[tuple[Beginning, slice]] = []
    last: dict[Beginning, int] = {}  # where each stands in what was found
    for segment in segments:
        beginning = segment.behind
        while beginning is not None:
            if beginning.tokens:
                at = last.get(beginning)
                if at is not None and found[at][1].stop == segment.start:
                    found[at] = beginning, slice(found[at][1].start, segment.stop)
                else:
                    last[beginning] = len(found)
                    found.append((beginning, segment.place))
            beginning = beginning.behind
    return found


def _for_each_head(queries: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values (N, K, D) as (N, H, D), for the query heads that read them."""
    group = queries.shape[1] // keys.shape[1]
    return keys.repeat_interleave(group, 1), values.repeat_interleave(group, 1)


def has_fused_kernel(device: torch.device) -> bool:
    """Whether torch has a kernel for it that gives the logarithms of the sums, too."""
    return device.type == "cpu"


def attended(
    queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scale: float, *, causal: bool = False
) -> tuple[Tensor, Tensor]:
    """(B, K, Q, D), and the logarithm of the sum (B, K, Q) that it was divided by, in float32."""
    if has_fused_kernel(queries.device):
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            queries, keys, values, is_causal=causal, attn_mask=mask, scale=scale
        )
    return _attended_in_steps(queries, keys, values, mask, scale, causal=causal)


def _attended_in_steps(
    queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scale: float, *, causal: bool
) -> tuple[Tensor, Tensor]:
    """The same on any device."""
    scores = (queries @ keys.transpose(-1, -2)).float() * scale
    if mask is not None:
        scores += mask
    if causal:
        scores += torch.full_like(scores[0, 0], float("-inf")).triu_(1)
    total = scores.logsumexp(-1)
    return (scores - total[..., None]).exp().to(values.dtype) @ values, total


def put_together(out: Tensor, total: Tensor, other: Tensor, other_total: Tensor) -> Tensor:
    """Attention over the keys of both, out of that over each."""
    share = torch.sigmoid(total - other_total)[..., None].to(out.dtype)
    return torch.lerp(other, out, share)


def _by_key_head(queries: Tensor, heads: int) -> Tensor:
    """(n, H, D) as (K, G * n, D): the queries that read the same keys together."""
    return queries.transpose(0, 1).reshape(heads, -1, queries.shape[-1])


def _by_token(grouped: Tensor, count: int) -> Tensor:
    """(K, G * n, ...) back as (n, H, ...)."""
    return grouped.reshape(-1, count, *grouped.shape[2:]).transpose(0, 1)
