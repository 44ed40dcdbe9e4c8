"""A frozen table from the rare elements of texts, in pairs or single, to the texts: two gathers for a look-up.

Signatures are hashed into buckets; a collision adds a candidate and can't lose one.
"""

from __future__ import annotations

from itertools import accumulate, combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from refine_af.novelty.bounds import Bounds, Partners
from refine_af.novelty.elements import Ints, Rows

_ODD = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F))
_POSTINGS_IN_A_BUCKET = 4
_AT_ONCE = 1 << 17  # signatures computed at a time, which the cache holds
_COUNTED_PLACES = 16  # counters for each name, up to which counting is quicker than sorting
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
        self._texts = by_length = np.argsort(lengths, kind="stable").astype(np.int32)
        counts = np.bincount(lengths, minlength=1).tolist()
        widths = [bounds.prefix(length) if count and length else 0 for length, count in enumerate(counts)]
        paired = [bool(width) and bounds.kind(length).paired for length, width in enumerate(widths)]
        each = [w * (w - 1) // 2 if pairs else w for w, pairs in zip(widths, paired, strict=True)]
        total = sum(count * signatures for count, signatures in zip(counts, each, strict=True))
        self._bits = max(1, (total // _POSTINGS_IN_A_BUCKET).bit_length())
        self._begins = np.array([0, *accumulate(counts)])  # of each length among the texts by length
        postings, last = _Postings(self._bits), 0
        for length, count in enumerate(counts):
            first, last = last, last + count
            step = max(1, _AT_ONCE // max(1, each[length]))
            for at in range(first, last if widths[length] else first, step):
                texts = by_length[at : min(at + step, last)]
                ranks = np.sort(rank[elements[starts[texts][:, None] + np.arange(length)]], axis=1)
                prefixes = np.ascontiguousarray(ranks[:, : widths[length]].T)  # (width, texts)
                postings.add(self._hash(prefixes, paired[length]), at)
        self._postings, self._ends = postings.by_bucket()

    @property
    def nbytes(self) -> int:
        return int(self.rank.nbytes + self._texts.nbytes + self._postings.nbytes + self._ends.nbytes)

    def candidates(self, elements: list[int], length: int, partners: Partners) -> Rows:
        """Partners that share enough of these elements, of a text of ``length`` tokens; some more than once."""
        known = [e for e in elements if e < len(self.rank)]
        if len(known) < partners.least:
            return _NONE.astype(np.intp)
        ranks = np.sort(self.rank[known])
        missing = length - len(known)  # outside of S without being looked up, so the prefix is shorter by them
        # Postings are places of texts by length: partners of one length or more, up to another, are one range of them.
        begins = self._begins[np.minimum(np.arange(partners.shortest, partners.longest + 2), len(self._begins) - 1)]
        found = []
        for kind, prefix in partners.kinds:
            if (width := prefix - missing) >= kind.shared:
                # The prefix for a partner with this need is length - missing - need + shared, shorter for a longer one:
                # an element at a place past it is one of the first shared elements only of shorter partners.
                partly = partners.need.searchsorted(length - missing + kind.shared - np.arange(width))
                ends = (begins[partly] - begins[0]).astype(np.uint32)
                if kind.paired:
                    ends = ends[_pairs(width)[1]]
                places = self._read(self._hash(ranks[:width], kind.paired), int(begins[0]), ends)
                found.append(places if kind.paired else _named_often(places, kind.shared, int(ends[0])))
        return self._texts[np.concatenate(found or [_NONE]) + begins[0]].astype(np.intp)

    def _read(self, buckets: Rows, first: int, ends: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
        """The places in each bucket from ``first`` on, counted from there, and below the bucket's end."""
        starts = self._ends[buckets]
        counts = self._ends[buckets + 1] - starts
        places = self._postings[spans(starts, counts)]
        places -= np.uint32(first)  # those before become very large
        return places[places < ends.repeat(counts)]

    def _hash(self, ranks: Ints, of_pairs: bool) -> Rows:
        """Buckets (signatures, ...) of sorted prefixes (width, ...)."""
        wide = ranks.astype(np.uint64)
        mixed = wide * _ODD[0]
        if of_pairs:
            left, right = _pairs(len(ranks))
            mixed = mixed[left]
            mixed ^= (wide * _ODD[1])[right]
        mixed >>= np.uint64(64 - self._bits)  # the high bits depend on all of a rank's
        return mixed.view(np.int64)


class _Postings:
    """Sorts texts by bucket, as letters are sorted: first by the high bits into shelves, then each shelf by the rest.

    Either step is a radix sort of 16-bit numbers that fit the cache, which one sort of them all would not.
    """

    def __init__(self, bits: int) -> None:
        self._shelves, self._buckets = 1 << max(0, bits - 16), 1 << min(bits, 16)
        self._parts: list[tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint32]]] = []  # buckets in a shelf, and texts
        self._counts: list[npt.NDArray[np.int64]] = []  # of each part, how much of it lies in each shelf

    def add(self, buckets: Rows, first: int) -> None:
        """Buckets (signatures, texts) of the texts from ``first`` on."""
        shelf = (buckets >> 16).astype(np.uint16).ravel()
        order = shelf.argsort(kind="stable")
        texts = np.arange(first, first + buckets.shape[1], dtype=np.uint32)
        every = np.broadcast_to(texts, buckets.shape).ravel()
        self._parts.append((buckets.astype(np.uint16).ravel()[order], every[order]))
        self._counts.append(np.bincount(shelf, minlength=self._shelves))

    def by_bucket(self) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.integer]]:
        """The texts in the order of their buckets (n,), and where each bucket begins (buckets + 1,)."""
        counts = np.array(self._counts, np.int64).reshape(-1, self._shelves)
        ends = counts.sum(axis=0).cumsum()
        total = int(ends[-1])
        starts = ends - counts.sum(axis=0) + counts.cumsum(axis=0) - counts  # of each part in each shelf
        bucket, texts = np.empty(total, np.uint16), np.empty(total, np.uint32)
        for start, count in zip(starts, counts, strict=True):
            places = spans(start, count)
            bucket[places], texts[places] = self._parts.pop(0)
        begins = np.zeros(self._shelves * self._buckets + 1, np.int64 if total >> 32 else np.uint32)
        first = 0
        for shelf, end in enumerate(ends.tolist()):
            inside = bucket[first:end]
            texts[first:end] = texts[first:end][inside.argsort(kind="stable")]
            at = shelf * self._buckets + 1
            begins[at : at + self._buckets] = first + np.bincount(inside, minlength=self._buckets).cumsum()
            first = end
        return texts, begins


def spans(starts: npt.NDArray[np.integer], lengths: npt.NDArray[np.integer]) -> Rows:
    """The places of several ranges, one after another: starts[0], starts[0] + 1, ..., starts[1], ..."""
    ends = lengths.cumsum(dtype=np.intp)
    return (starts - ends + lengths).repeat(lengths) + np.arange(ends[-1] if len(ends) else 0)


def _named_often(places: npt.NDArray[np.uint32], times: int, end: int) -> npt.NDArray[np.integer]:
    """The places below ``end`` that are named at least so often, once each."""
    if end < _COUNTED_PLACES * len(places):
        return np.flatnonzero(np.bincount(places) >= times)
    places.sort()  # such a place stands again ``times`` - 1 on
    often = places[times - 1 :][places[times - 1 :] == places[: max(0, len(places) - times + 1)]]
    return often[fresh(often)]


def fresh(values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Which of the sorted values differ from the one before."""
    return np.concatenate((_TRUE[: len(values)], values[1:] != values[:-1]))


_PAIRS: dict[int, tuple[Rows, Rows]] = {}


def _pairs(width: int) -> tuple[Rows, Rows]:
    if width not in _PAIRS:
        places = np.array(list(combinations(range(width), 2)), np.intp).reshape(-1, 2)
        _PAIRS[width] = places[:, 0].copy(), places[:, 1].copy()
    return _PAIRS[width]
