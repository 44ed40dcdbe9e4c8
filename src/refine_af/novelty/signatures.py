"""A frozen table from the rare elements of texts, in pairs or single, to the texts: two gathers for a look-up.

Signatures are hashed into buckets; a collision adds a candidate and can't lose one.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from refine_af.novelty.bounds import Bounds, Partners

Ints = npt.NDArray[np.int32]
Rows = npt.NDArray[np.intp]

_ODD = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F))
_POSTINGS_IN_A_BUCKET = 4
_CHUNK = 50_000
_NONE = np.zeros(0, np.uint32)
_TRUE = np.ones(1, bool)


class SignatureTable:
    """Made of all texts at once, from ``elements`` (n,): those of text i are ``lengths[i]``, from ``starts[i]`` on.

    Two texts above the threshold have a signature in common. By the prefix bound they share the first k elements of S
    within their prefixes: k = 2 makes the pair of them the signature, k = 1 the first alone.
    """

    def __init__(self, bounds: Bounds, elements: Ints, starts: npt.NDArray[np.int64], lengths: Ints) -> None:
        self.rows = len(lengths)
        size = int(elements.max()) + 1 if len(elements) else 0
        # Rank 0 is the rarest element. Any fixed order is exact; this one makes the postings short.
        rank = np.empty(size, np.int32)
        rank[np.argsort(np.bincount(elements, minlength=size), kind="stable")] = np.arange(size, dtype=np.int32)
        self.rank = rank
        by_length = np.argsort(lengths, kind="stable").astype(np.int32)
        counts = np.bincount(lengths) if len(lengths) else np.zeros(1, np.int64)
        total = sum(int(n) * _signatures(bounds, b) for b, n in enumerate(counts.tolist()) if b and n)
        self._bits = max(1, (total // _POSTINGS_IN_A_BUCKET).bit_length())
        places = np.empty(total, np.int64)  # bucket in the high half, text in the low half
        filled = first = 0
        for length, count in enumerate(counts.tolist()):
            width = bounds.prefix(length) if count and length else 0
            for at in range(first, first + count if width else first, _CHUNK):
                some = by_length[at : min(at + _CHUNK, first + count)]
                ranks = np.sort(rank[elements[starts[some][:, None] + np.arange(length)]], axis=1)[:, :width]
                buckets = self._hash(ranks, bounds.kind(length).paired)  # (texts, signatures of each)
                flat = (buckets << 32 | some[:, None]).ravel()
                places[filled : filled + len(flat)] = flat
                filled += len(flat)
            first += count
        places.sort()
        self._postings = places.astype(np.uint32)  # the low half
        places >>= 32
        self._ends = np.zeros((1 << self._bits) + 1, np.int64 if total >> 32 else np.uint32)
        self._ends[1:] = np.cumsum(np.bincount(places, minlength=1 << self._bits))

    @property
    def nbytes(self) -> int:
        return int(self.rank.nbytes + self._postings.nbytes + self._ends.nbytes)

    def candidates(self, elements: list[int], length: int, partners: Partners) -> Rows:
        """Texts that share enough of these elements, of a text of ``length`` tokens; some are named more than once."""
        known = [e for e in elements if e < len(self.rank)]
        if len(known) < partners.least:
            return _NONE.astype(np.intp)
        ranks = np.sort(self.rank[known])
        missing = length - len(known)  # outside of S without being looked up, so the prefix is shorter by them
        found = []
        for kind, prefix in partners.kinds:
            if (width := prefix - missing) >= kind.shared:
                rows = self._read(self._hash(ranks[None, :width], kind.paired)[0])
                found.append(rows if kind.paired else _named_often(rows, kind.shared))
        return np.concatenate(found or [_NONE]).astype(np.intp)

    def _read(self, buckets: Rows) -> npt.NDArray[np.uint32]:
        starts = self._ends[buckets]
        return self._postings[spans(starts, self._ends[buckets + 1] - starts)]

    def _hash(self, ranks: Ints, of_pairs: bool) -> Rows:
        """Buckets (n, signatures) of sorted prefixes (n, width)."""
        wide = ranks.astype(np.uint64)
        if of_pairs:
            left, right = _pairs(ranks.shape[1])
            mixed = (wide * _ODD[0])[:, left] ^ (wide * _ODD[1])[:, right]
        else:
            mixed = wide * _ODD[0]
        mixed >>= np.uint64(64 - self._bits)  # the high bits depend on all of a rank's
        return mixed.view(np.int64)


def spans(starts: npt.NDArray[np.integer], lengths: npt.NDArray[np.integer]) -> Rows:
    """The places of several ranges, one after another: starts[0], starts[0] + 1, ..., starts[1], ..."""
    ends = lengths.cumsum(dtype=np.intp)
    return (starts - ends + lengths).repeat(lengths) + np.arange(ends[-1] if len(ends) else 0)


def _named_often(rows: npt.NDArray[np.uint32], times: int) -> npt.NDArray[np.uint32]:
    """The rows that are named at least so often, once each: in order, such a row stands again ``times`` - 1 on."""
    rows.sort(kind="stable")  # runs in order, one of each bucket, which this kind of sort only merges
    return different(rows[times - 1 :][rows[times - 1 :] == rows[: max(0, len(rows) - times + 1)]])


def different(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Each of the sorted rows once."""
    return rows[np.concatenate((_TRUE, rows[1:] != rows[:-1]))] if len(rows) else rows


def _signatures(bounds: Bounds, length: int) -> int:
    width = bounds.prefix(length)
    return width * (width - 1) // 2 if bounds.kind(length).paired else width


_PAIRS: dict[int, tuple[Rows, Rows]] = {}


def _pairs(width: int) -> tuple[Rows, Rows]:
    if width not in _PAIRS:
        places = np.array(list(combinations(range(width), 2)), np.intp).reshape(-1, 2)
        _PAIRS[width] = places[:, 0].copy(), places[:, 1].copy()
    return _PAIRS[width]
