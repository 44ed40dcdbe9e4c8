"""Batches for what runs a model: rows of nearly one length, so that little is computed for padding."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_MOST_PADDING = 0.15  # of the tokens of a batch


def alike(lengths: Sequence[int], size: int, tokens: int | None = None) -> Iterator[list[int]]:
    """Places of rows in batches of at most ``size`` rows and, where it is given, ``tokens`` tokens with the padding.

    The longest rows come first, so that a lack of memory shows at once. A batch ends before the row that would make
    more than 15 % of it padding; it has one row at least.
    """
    most = tokens or sys.maxsize
    batch: list[int] = []
    real = 0
    for place in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if batch:
            padded = lengths[batch[0]] * (len(batch) + 1)
            padding = padded - real - lengths[place]
            if len(batch) == size or padded > most or padding > _MOST_PADDING * padded:
                yield batch
                batch, real = [], 0
        batch.append(place)
        real += lengths[place]
    if batch:
        yield batch


def padded_batches(
    rows: Sequence[Sequence[int]], size: int, pad_id: int, device: str
) -> Iterator[tuple[list[int], torch.Tensor, torch.Tensor]]:
    """The rows of token ids in batches as :func:`alike` makes them.

    Yields the rows' places in ``rows``, their ids and their mask (1 for a real token), both (B, T), padded right.
    """
    import torch

    for places in alike([len(row) for row in rows], size):
        width = len(rows[places[0]])
        ids = [[*rows[i], *[pad_id] * (width - len(rows[i]))] for i in places]
        mask = [[1] * len(rows[i]) + [0] * (width - len(rows[i])) for i in places]
        yield places, torch.tensor(ids, device=device), torch.tensor(mask, device=device)
