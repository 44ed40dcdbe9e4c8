"""Attention over rows that share beginnings: a beginning's keys and values stand once, and each step reads them once.

All tokens of a forward pass stand one behind another in a single row, whatever texts they belong to, so that nothing
is computed for padding. What a token sees is decided here alone, by the layout that is passed with the forward pass.

Shapes: N tokens of the pass, H query heads, K key heads, D their size, P tokens of a beginning.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

IMPLEMENTATION = "refine_af_shared_beginnings"
_STEP_OF_ROOM = 128  # tokens; rows that need about as much room are computed together


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
    **_: Any,
) -> tuple[Tensor, None]:
    """As transformers calls it: (1, H, N, D) and (1, K, N, D) in, (1, N, H, D) out."""
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    queries, keys, values = (one[0].transpose(0, 1) for one in (query, key, value))
    return layout.attend(module.layer_idx, queries, keys, values, scale)[None], None


AttentionInterface.register(IMPLEMENTATION, _attention)
AttentionMaskInterface.register(IMPLEMENTATION, lambda *_, **__: None)


@dataclass(eq=False)
class Beginning:
    """The tokens that several rows begin with; of each layer the keys and values (K, P, D) once they were read."""

    tokens: list[int]
    is_read: bool = False
    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)

    def keep(self, layer: int, keys: Tensor, values: Tensor) -> None:
        self.keys.append(keys.contiguous())
        self.values.append(values.contiguous())


@dataclass(eq=False)
class Row:
    """A text that grows: behind its beginning what is its own, ``length`` tokens with those written so far."""

    place: int
    beginning: Beginning
    own: list[int]
    written: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)

    @property
    def length(self) -> int:
        return len(self.own) + len(self.written)


class Shelf:
    """Keys and values of what is rows' own, for rows that need about as much room; those of rows in use come first."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.rows: list[Row] = []
        self._capacity = 0
        self.keys: list[Tensor] = []  # of each layer (capacity, K, room, D)
        self.values: list[Tensor] = []

    def add(self, row: Row) -> int:
        """Its slot, until a row is removed."""
        self.rows.append(row)
        if len(self.rows) > self._capacity:
            self._capacity = max(4, 2 * self._capacity)
        return len(self.rows) - 1

    def write(self, layer: int, slot: int, keys: Tensor, values: Tensor) -> None:
        """Of a row's first tokens (K, n, D)."""
        for kept, new in ((self.keys, keys), (self.values, values)):
            if len(kept) == layer:
                kept.append(new.new_zeros(0, new.shape[0], self.room, new.shape[2]))
            if missing := self._capacity - len(kept[layer]):
                kept[layer] = torch.cat([kept[layer], new.new_zeros(missing, *kept[layer].shape[1:])])
            kept[layer][slot, :, : new.shape[1]] = new

    def remove(self, row: Row) -> None:
        """The last row moves to its place."""
        slot, last = self.rows.index(row), len(self.rows) - 1
        if slot != last:
            used = self.rows[last].length
            for kept in (*self.keys, *self.values):
                kept[slot, :, :used] = kept[last, :, :used]
            self.rows[slot] = self.rows[last]
        self.rows.pop()


class Shelves:
    """All rows in work."""

    def __init__(self) -> None:
        self._by_room: dict[int, Shelf] = {}
        self._of: dict[Row, Shelf] = {}

    def __len__(self) -> int:
        return len(self._of)

    def __iter__(self) -> Iterator[Shelf]:
        return (shelf for shelf in self._by_room.values() if shelf.rows)

    def rows(self) -> list[Row]:
        """In the order in which a step computes them."""
        return [row for shelf in self for row in shelf.rows]

    def put(self, row: Row, more: int) -> tuple[Shelf, int]:
        """A new row, with room for ``more`` tokens; gives the shelf on which it stands, and its slot there."""
        room = -(-(row.length + more) // _STEP_OF_ROOM) * _STEP_OF_ROOM
        shelf = self._by_room.setdefault(room, Shelf(room))
        self._of[row] = shelf
        return shelf, shelf.add(row)

    def remove(self, row: Row) -> None:
        self._of.pop(row).remove(row)


class Keeper(Protocol):
    """Takes a segment's keys and values of a layer, both (K, n, D)."""

    def keep(self, layer: int, keys: Tensor, values: Tensor) -> None: ...


@dataclass
class Segment:
    """A piece of a text in a pass over prompts: ``start`` is its first token's place, ``behind`` what it goes on from,
    ``keeper`` takes its keys and values."""

    start: int
    tokens: list[int]
    behind: Beginning | None
    keeper: Keeper

    @property
    def stop(self) -> int:
        return self.start + len(self.tokens)

    def positions(self) -> range:
        before = len(self.behind.tokens) if self.behind else 0
        return range(before, before + len(self.tokens))


class PromptsLayout:
    """Every segment sees what it goes on from, and itself up to each token. Neighbours that go on from the same
    beginning are to be neighbours."""

    def __init__(self, segments: Sequence[Segment]) -> None:
        self._segments = segments
        self._families = [list(family) for _, family in groupby(segments, key=lambda segment: segment.behind)]

    def attend(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
        made = []
        for family in self._families:
            own = [self._itself(layer, segment, queries, keys, values, scale) for segment in family]
            out, total = torch.cat([o for o, _ in own]), torch.cat([t for _, t in own])
            beginning = family[0].behind
            if beginning and beginning.tokens:
                place = slice(family[0].start, family[-1].stop)
                grouped = _by_key_head(queries[place], keys.shape[1])[None]  # (1, K, G * n, D)
                theirs, their_total = _attended(
                    grouped, beginning.keys[layer][None], beginning.values[layer][None], None, scale
                )
                out = _together(out, total, _by_token(theirs[0], len(out)), _by_token(their_total[0], len(out)))
            made.append(out)
        return torch.cat(made)

    @staticmethod
    def _itself(
        layer: int, segment: Segment, queries: Tensor, keys: Tensor, values: Tensor, scale: float
    ) -> tuple[Tensor, Tensor]:
        place = slice(segment.start, segment.stop)
        own_queries, own_keys, own_values = (one[place].transpose(0, 1) for one in (queries, keys, values))
        segment.keeper.keep(layer, own_keys, own_values)
        group = own_queries.shape[0] // own_keys.shape[0]
        keys, values = (one.repeat_interleave(group, 0)[None] for one in (own_keys, own_values))
        out, total = _attended(own_queries[None], keys, values, None, scale, causal=True)
        return out[0].transpose(0, 1), total[0].transpose(0, 1)


class StepLayout:
    """One token of every row: it sees the row's beginning and what is its own. The two are computed apart, the first
    for all rows with that beginning together, and put together by the logarithms of their sums (Dao et al. 2023)."""

    def __init__(self, shelves: Shelves, device: torch.device, dtype: torch.dtype) -> None:
        self._own: list[tuple[Shelf, slice, Tensor, int, Tensor]] = []
        rows = shelves.rows()
        first = 0
        for shelf in shelves:
            # The token that a row is asked to go on from was written, but its keys and values were not computed yet.
            last = torch.tensor([row.length - 1 for row in shelf.rows], device=device)
            width = max(row.length for row in shelf.rows)
            mask = torch.zeros(len(last), 1, 1, width, device=device, dtype=dtype)
            mask.masked_fill_(torch.arange(width, device=device) > last[:, None, None, None], float("-inf"))
            self._own.append((shelf, slice(first, first + len(last)), last, width, mask))
            first += len(last)
        members: dict[Beginning, list[int]] = {}
        for i, row in enumerate(rows):
            if row.beginning.tokens:
                members.setdefault(row.beginning, []).append(i)
        self._shared = [(beginning, len(places)) for beginning, places in members.items()]
        order = [i for places in members.values() for i in places]
        # Which rows share, in the order of what they share; None: all rows, as they stand.
        self._order = None if order == list(range(len(rows))) else torch.tensor(order, device=device)

    def attend(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
        count, heads, size = queries.shape
        grouped = queries.reshape(count, keys.shape[1], -1, size)  # (N, K, G, D)
        own = [self._of_shelf(layer, *part, grouped, keys, values, scale) for part in self._own]
        out, total = torch.cat([o for o, _ in own]), torch.cat([t for _, t in own])  # (N, K, G, D), (N, K, G)
        if self._shared:
            if self._order is None:
                out = _together(out, total, *self._of_beginnings(layer, grouped, scale))
            else:
                some = self._order
                theirs = self._of_beginnings(layer, grouped[some], scale)
                out[some] = _together(out[some], total[some], *theirs)
        return out.reshape(count, heads, size)

    @staticmethod
    def _of_shelf(
        layer: int,
        shelf: Shelf,
        place: slice,
        last: Tensor,
        width: int,
        mask: Tensor,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        scale: float,
    ) -> tuple[Tensor, Tensor]:
        count = len(last)
        kept_keys, kept_values = shelf.keys[layer], shelf.values[layer]
        slots = torch.arange(count, device=last.device)
        kept_keys[slots, :, last] = keys[place]
        kept_values[slots, :, last] = values[place]
        return _attended(queries[place], kept_keys[:count, :, :width], kept_values[:count, :, :width], mask, scale)

    def _of_beginnings(self, layer: int, queries: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        outs, totals = [], []
        heads, group, size = queries.shape[1:]
        for (beginning, count), part in zip(
            self._shared, queries.split([count for _, count in self._shared]), strict=True
        ):
            flat = part.transpose(0, 1).reshape(1, heads, count * group, size)
            out, total = _attended(flat, beginning.keys[layer][None], beginning.values[layer][None], None, scale)
            outs.append(out.view(heads, count, group, size).transpose(0, 1))
            totals.append(total.view(heads, count, group).transpose(0, 1))
        return torch.cat(outs), torch.cat(totals)


def _attended(
    queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scale: float, *, causal: bool = False
) -> tuple[Tensor, Tensor]:
    """(B, K, Q, D), and the logarithm of the sum (B, K, Q) that it was divided by, in float32."""
    if queries.device.type == "cpu":
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            queries, keys, values, is_causal=causal, attn_mask=mask, scale=scale
        )
    return _attended_in_steps(queries, keys, values, mask, scale, causal=causal)


def _attended_in_steps(
    queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scale: float, *, causal: bool
) -> tuple[Tensor, Tensor]:
    """The same on any device: torch's fused kernels of other devices don't all give the logarithms."""
    scores = (queries @ keys.transpose(-1, -2)).float() * scale
    if mask is not None:
        scores += mask
    if causal:
        scores += torch.full_like(scores[0, 0], float("-inf")).triu_(1)
    total = scores.logsumexp(-1)
    return (scores - total[..., None]).exp().to(values.dtype) @ values, total


def _together(out: Tensor, total: Tensor, other: Tensor, other_total: Tensor) -> Tensor:
    """Attention over the keys of both, out of that over each."""
    share = torch.sigmoid(total - other_total)[..., None].to(out.dtype)
    return torch.lerp(other, out, share)


def _by_key_head(queries: Tensor, heads: int) -> Tensor:
    """(n, H, D) as (K, G * n, D): the queries that read the same keys together."""
    return queries.transpose(0, 1).reshape(heads, -1, queries.shape[-1])


def _by_token(grouped: Tensor, count: int) -> Tensor:
    """(K, G * n, ...) back as (n, H, ...)."""
    return grouped.reshape(-1, count, *grouped.shape[2:]).transpose(0, 1)
