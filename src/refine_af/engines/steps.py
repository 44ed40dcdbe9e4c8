"""Steps of decoding: one token of every row goes through the network.

A step of a small network, or of any on a GPU, takes longer to ask for than to compute: it is thousands of operations,
each asked for from Python. So where a device can record them, a step is recorded once and repeated with one request.
What is recorded always computes with the same tensors: for as many rows and tokens as there may be, with rows that
mean nothing in the free places.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from refine_af.engines.attention import attended, put_together
from refine_af.engines.rows import Beginning, Row, Shelf, Shelves

_STEP_OF_WIDTH = 128  # tokens, to which those that a recorded step sees are rounded up
_MOST_WASTE = 4  # a recorded step is made for so many times what is needed; less, and a smaller one pays for itself

# Takes what computes a step, and gives what repeats it into the same tensor.
Recorder = Callable[[Callable[[], Tensor]], Callable[[], Tensor]]


@dataclass(frozen=True, slots=True)
class _Part:
    """Of a shelf as large as it is now: so many rows, and of each the first ``width`` tokens."""

    shelf: Shelf
    capacity: int
    rows: int
    width: int

    def rounded(self) -> _Part:
        width = -(-self.width // _STEP_OF_WIDTH) * _STEP_OF_WIDTH
        rows = 1 << (self.rows - 1).bit_length()
        return replace(self, rows=min(self.capacity, rows), width=min(self.shelf.room, width))

    def covers(self, other: _Part) -> bool:
        return self.rows >= other.rows and self.width >= other.width


@dataclass(frozen=True, slots=True)
class StepShape:
    """What a step's tensors are made for. ``shared``: the beginnings that stand apart from rows."""

    parts: tuple[_Part, ...]
    shared: tuple[Beginning, ...]

    @classmethod
    def of(cls, shelves: Shelves) -> StepShape:
        """Exactly what is needed now."""
        parts = [
            _Part(shelf, shelf.capacity, len(shelf.rows), max(row.kept for row in shelf.rows)) for shelf in shelves
        ]
        found = dict.fromkeys(row.shared for shelf in shelves for row in shelf.rows)
        return cls(tuple(parts), tuple(one for one in found if one is not None))

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.parts)

    @property
    def cost(self) -> int:
        return sum(part.rows * part.width for part in self.parts)

    def rounded(self) -> StepShape:
        return StepShape(tuple(part.rounded() for part in self.parts), self.shared)

    def covers(self, other: StepShape) -> bool:
        """Whether a step made for this serves for what is needed now. Of a shelf that has grown, needed or not, keys
        and values lie elsewhere."""
        mine = {part.shelf: part for part in self.parts}
        fits = all(part.shelf in mine and mine[part.shelf].covers(part) for part in other.parts)
        return fits and self.shared == other.shared and all(p.shelf.capacity == p.capacity for p in self.parts)


class StepLayout:
    """One token of every row: it sees the row's beginning and what is its own. The two are computed apart, the first
    for all rows with that beginning together, and put together by the logarithms of their sums (Dao et al. 2023)."""

    def __init__(self, shape: StepShape, device: torch.device, dtype: torch.dtype) -> None:
        self.shape = shape
        self._dtype = dtype
        self._numbers = torch.zeros(3, shape.rows, dtype=torch.long, device=device)  # tokens, positions, last
        self._places: list[slice] = []
        for part in shape.parts:
            first = self._places[-1].stop if self._places else 0
            self._places.append(slice(first, first + part.rows))
        self._masks: list[Tensor] = []
        self._shared: list[tuple[Beginning, int]] = []
        # Which rows share, in the order of what they share; None: all rows, as they stand.
        self._order: Tensor | None = None

    @property
    def tokens(self) -> Tensor:
        return self._numbers[:1]

    @property
    def positions(self) -> Tensor:
        return self._numbers[1:2]

    def fill(self) -> tuple[list[Row], list[int]]:
        """Takes in what the rows have come to; gives them, and their places among those that are computed."""
        columns: list[tuple[int, int, int]] = []
        rows: list[Row] = []
        places: list[int] = []
        for part in self.shape.parts:
            here = part.shelf.rows
            rows += here
            places += range(len(columns), len(columns) + len(here))
            # The token that a row is asked to go on from was written, but its keys and values were not computed yet.
            columns += [(row.written[-1], row.position, row.kept - 1) for row in here]
            columns += [(0, 0, 0)] * (part.rows - len(here))
        self._numbers.copy_(torch.tensor(columns).T)
        self._sort(rows, places)
        return rows, places

    def _sort(self, rows: list[Row], places: list[int]) -> None:
        members: dict[Beginning, list[int]] = {}
        for row, place in zip(rows, places, strict=True):
            if row.shared:
                members.setdefault(row.shared, []).append(place)
        self._shared = [(beginning, len(some)) for beginning, some in members.items()]
        order = [place for some in members.values() for place in some]
        self._order = None
        if len(members) == 1 and order == places:
            self._shared = [(next(iter(members)), self.shape.rows)]  # what means nothing may see it, too
        elif order != list(range(self.shape.rows)):
            self._order = torch.tensor(order, device=self._numbers.device)

    def begin(self) -> None:
        """What a step computes before its layers: which of a shelf's tokens each row sees."""
        self._masks = []
        for part, place in zip(self.shape.parts, self._places, strict=True):
            last = self._numbers[2, place, None, None, None]
            beyond = torch.arange(part.width, device=last.device) > last
            mask = torch.zeros(beyond.shape, device=last.device, dtype=self._dtype)
            self._masks.append(mask.masked_fill_(beyond, float("-inf")))

    def attend(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
        count, heads, size = queries.shape
        grouped = queries.reshape(count, keys.shape[1], -1, size)  # (N, K, G, D)
        own = [self._of_part(layer, i, grouped, keys, values, scale) for i in range(len(self._places))]
        out, total = torch.cat([o for o, _ in own]), torch.cat([t for _, t in own])  # (N, K, G, D), (N, K, G)
        if self._shared:
            if self._order is None:
                out = put_together(out, total, *self._of_beginnings(layer, grouped, scale))
            else:
                some = self._order
                theirs = self._of_beginnings(layer, grouped[some], scale)
                out[some] = put_together(out[some], total[some], *theirs)
        return out.reshape(count, heads, size)

    def _of_part(
        self, layer: int, number: int, queries: Tensor, keys: Tensor, values: Tensor, scale: float
    ) -> tuple[Tensor, Tensor]:
        part, place = self.shape.parts[number], self._places[number]
        last = self._numbers[2, place]
        kept_keys, kept_values = part.shelf.keys[layer], part.shelf.values[layer]
        slots = torch.arange(part.rows, device=last.device)
        kept_keys[slots, :, last] = keys[place]
        kept_values[slots, :, last] = values[place]
        seen = slice(part.rows), slice(None), slice(part.width)
        return attended(queries[place], kept_keys[seen], kept_values[seen], self._masks[number], scale)

    def _of_beginnings(self, layer: int, queries: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        outs, totals = [], []
        heads, group, size = queries.shape[1:]
        for (beginning, count), part in zip(
            self._shared, queries.split([count for _, count in self._shared]), strict=True
        ):
            flat = part.transpose(0, 1).reshape(1, heads, count * group, size)
            out, total = attended(flat, beginning.keys[layer][None], beginning.values[layer][None], None, scale)
            outs.append(out.view(heads, count, group, size).transpose(0, 1))
            totals.append(total.view(heads, count, group).transpose(0, 1))
        return torch.cat(outs), torch.cat(totals)


class Steps:
    """Makes one step after another for all rows on the shelves, of which it records those that come again.

    With a recorder, rows have to share one beginning or stand alone: which rows share what would be recorded, too.
    """

    def __init__(
        self,
        shelves: Shelves,
        compute: Callable[[StepLayout], Tensor],
        device: torch.device,
        dtype: torch.dtype,
        record: Recorder | None,
    ) -> None:
        self._shelves = shelves
        self._compute = compute
        self._device = device
        self._dtype = dtype
        self._record = record
        self._recorded: list[tuple[StepLayout, Callable[[], Tensor]]] = []
        self._last: StepShape | None = None  # of the last step that no recorded one served for

    def next(self) -> tuple[list[Row], Tensor]:
        """The rows, and the logits (N, V) behind what each has written."""
        need = StepShape.of(self._shelves)
        if self._record is None:
            layout = self._layout(need)
            rows, _ = layout.fill()
            return rows, self._computed(layout)
        shape = need.rounded()
        fitting = [one for one in self._recorded if one[0].shape.covers(need)]
        best = min(fitting, key=lambda one: one[0].shape.cost, default=None)
        if best and best[0].shape.cost <= _MOST_WASTE * shape.cost:
            layout, repeat = best
            rows, places = layout.fill()
            return rows, _some(repeat(), places)
        layout = self._layout(shape)
        rows, places = layout.fill()
        logits = self._computed(layout)  # which also makes ready what is made at its first use
        if shape == self._last:
            self._recorded.append((layout, self._record(lambda: self._computed(layout))))
        self._last = shape
        return rows, _some(logits, places)

    def _layout(self, shape: StepShape) -> StepLayout:
        return StepLayout(shape, self._device, self._dtype)

    def _computed(self, layout: StepLayout) -> Tensor:
        layout.begin()
        return self._compute(layout)


def _some(logits: Tensor, places: list[int]) -> Tensor:
    return logits if len(places) == len(logits) else logits[places]


def cuda_recorder() -> Recorder:
    """Records CUDA graphs, which share one pool of memory: no two are repeated at once, and a step's logits are read
    before the next one. A network that can't be recorded (it asks the device something in between) goes on step by
    step."""
    pool = torch.cuda.graph_pool_handle()

    def record(compute: Callable[[], Tensor]) -> Callable[[], Tensor]:
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=pool):
                logits = compute()
        except RuntimeError:
            return compute

        def repeat() -> Tensor:
            graph.replay()
            return logits

        return repeat

    return record
