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


# What a step of decoding costs beside the work for its rows, and what each row in it costs, in tokens of a prompt that
# is read at one go; measured with the embedded model in int8 on one core.
_STEP, _ROW_OF_A_STEP = 24.0, 4.0


def cheapest_batches(lengths: Sequence[int], size: int, decoded: int) -> list[list[int]]:
    """Places of prompts, in the order of their lengths, in batches of at most ``size`` that cost least to complete.

    For an engine that reads a batch's prompts at one go up to the length of the shortest and the rest step by step, as
    CTranslate2 does: small batches waste steps, uneven ones read slowly. ``decoded`` is how many steps follow.
    """
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    best: list[tuple[float, int]] = [
        (0.0, 0)
    ]  # of the first n prompts: what they cost, and where the last batch begins
    for end in range(1, len(order) + 1):
        longest = lengths[order[end - 1]]
        costs = []
        for start in range(max(0, end - size), end):
            rows, shortest = end - start, lengths[order[start]]
            steps = longest - shortest + decoded
            costs.append((best[start][0] + rows * shortest + steps * (_STEP + _ROW_OF_A_STEP * rows), start))
        best.append(min(costs))
    batches, end = [], len(order)
    while end:
        start = best[end][1]
        batches.append(order[start:end])
        end = start
    return batches[::-1]


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
