"""Rows that are decoded together, and where their keys and values are kept.

Shapes: K key heads, D their size, P tokens of a beginning.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

_STEP_OF_ROOM = 128  # tokens; rows that need about as much room are computed together


@dataclass(eq=False)
class Beginning:
    """The tokens that several texts begin with, or go on with behind another beginning; of each layer the keys and
    values (K, P, D) once they were read."""

    tokens: list[int]
    behind: Beginning | None = None
    is_read: bool = False
    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)

    @property
    def stop(self) -> int:
        """The position in the text of what comes next."""
        return (self.behind.stop if self.behind else 0) + len(self.tokens)

    def keep(self, layer: int, keys: Tensor, values: Tensor) -> None:
        self.keys.append(keys.contiguous())
        self.values.append(values.contiguous())


@dataclass(eq=False)
class Row:
    """A text that grows: its beginning, what is its own, and what was written so far. ``stream`` is what it draws from.
    One that ``stands_alone`` keeps a copy of its beginning's keys and values with its own."""

    place: int
    beginning: Beginning
    own: list[int]
    stream: int = 0
    stands_alone: bool = False
    written: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)

    @property
    def tokens(self) -> list[int]:
        return self.beginning.tokens + self.own + self.written

    @property
    def position(self) -> int:
        """Of its last token in the text."""
        return len(self.beginning.tokens) + len(self.own) + len(self.written) - 1

    @property
    def kept(self) -> int:
        """The tokens in its slot, with the last one's, whose keys and values the next step computes."""
        return self.position + 1 if self.stands_alone else len(self.own) + len(self.written)

    @property
    def shared(self) -> Beginning | None:
        """What stands elsewhere."""
        return self.beginning if self.beginning.tokens and not self.stands_alone else None


class Shelf:
    """Keys and values of rows that need about as much room; those of rows in use come first."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.capacity = 0
        self.rows: list[Row] = []
        self.keys: list[Tensor] = []  # of each layer (capacity, K, room, D)
        self.values: list[Tensor] = []

    def add(self, row: Row) -> int:
        """Its slot, until a row is removed."""
        self.rows.append(row)
        if len(self.rows) > self.capacity:
            self.capacity = max(4, 2 * self.capacity)
        return len(self.rows) - 1

    def write(self, layer: int, slot: int, keys: Tensor, values: Tensor, start: int = 0) -> None:
        """Of a row's tokens (K, n, D) from ``start`` on."""
        for kept, new in ((self.keys, keys), (self.values, values)):
            if len(kept) == layer:
                kept.append(new.new_zeros(0, new.shape[0], self.room, new.shape[2]))
            if missing := self.capacity - len(kept[layer]):
                kept[layer] = torch.cat([kept[layer], new.new_zeros(missing, *kept[layer].shape[1:])])
            kept[layer][slot, :, start : start + new.shape[1]] = new

    def remove(self, row: Row) -> None:
        """The last row moves to its place."""
        slot, last = self.rows.index(row), len(self.rows) - 1
        if slot != last:
            used = self.rows[last].kept
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

    def put(self, row: Row, more: int) -> tuple[Shelf, int]:
        """A new row, with room for ``more`` tokens; gives the shelf on which it stands, and its slot there."""
        room = -(-(row.kept + more) // _STEP_OF_ROOM) * _STEP_OF_ROOM
        shelf = self._by_room.setdefault(room, Shelf(room))
        self._of[row] = shelf
        return shelf, shelf.add(row)

    def remove(self, row: Row) -> None:
        self._of.pop(row).remove(row)
