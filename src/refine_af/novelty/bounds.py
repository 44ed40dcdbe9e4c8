"""What two texts must share to score above the threshold, given their lengths alone.

Every bound follows from two facts, both proved in one line:

- *Length.* LCS <= min(a, b), so a pair with F(min(a, b), a, b) <= threshold is out.
- *Overlap.* A common subsequence is a common multiset of tokens, so LCS <= overlap, and a pair must share at least
  ``need(a, b)``, the least L with F(L, a, b) > threshold.

The n-th occurrence of a word counts as an element of its own ("the", "the 2", ...), so that texts become sets of
elements and the multiset overlap becomes the size of an intersection.

- *Prefix.* Let S be ``need`` common elements and sort each text's elements by one fixed order, rare ones first. At most
  a - need elements of a text of a are outside S, so the first k elements of S are among its first a - need + k.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from refine_af.novelty.rouge import f_measure, f_measures

# Texts whose prefix is longer get single elements as signatures: pairs grow with the prefix's square.
LONGEST_PAIRED_PREFIX = 16


@dataclass(frozen=True)
class Partners:
    """The texts that one of ``length`` tokens can repeat: theirs are ``shortest`` to ``longest`` tokens."""

    length: int
    shortest: int
    longest: int
    need: npt.NDArray[np.int64]  # (longest - shortest + 1,), of partners by length; it never falls
    paired: npt.NDArray[np.bool_]  # (longest - shortest + 1,), whether partners of that length have pairs as signatures
    least: int  # the least need of all

    def prefix(self, of_pairs: bool, missing: int = 0) -> int:
        """How many rare elements to look up, in pairs or single, to meet every partner of that kind; 0: it has none.

        ``missing`` elements are known to be in no partner; they are outside of S without being looked up.
        """
        needs = self.need[self.paired == of_pairs]
        if not len(needs):
            return 0
        k = 2 if of_pairs else 1
        prefix = self.length - int(needs[0]) - missing + k
        return prefix if prefix >= k else 0


class Bounds:
    """The bounds for one threshold, computed once for each length that is met."""

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self._partners: dict[int, Partners] = {}
        self._least: dict[int, int] = {}

    def partners(self, length: int) -> Partners:
        """Of a text of ``length`` >= 1 tokens. Without any (a threshold of 1), shortest > longest."""
        found = self._partners.get(length)
        if found is None:
            found = self._partners[length] = self._compute(length)
        return found

    def paired(self, length: int) -> bool:
        """Whether texts of this length get pairs of elements as signatures: two must be shared, and the pairs few."""
        least = self._least_need(length)
        return least >= 2 and length - least + 2 <= LONGEST_PAIRED_PREFIX

    def row_prefix(self, length: int) -> int:
        """How many rare elements of a kept text of ``length`` >= 1 its signatures are made of; 0: nothing repeats it."""
        least = self._least_need(length)
        return length - least + (2 if self.paired(length) else 1) if least <= length else 0

    def _least_need(self, length: int) -> int:
        """The least need over all partners, which the shortest has; length + 1 where nothing reaches the threshold."""
        if length not in self._least:
            shortest = self._shortest(length)
            self._least[length] = length + 1 if shortest > length else self._need(length, np.array([shortest]))[0]
        return int(self._least[length])

    def _compute(self, length: int) -> Partners:
        shortest = self._shortest(length)
        if shortest > length:
            empty = np.zeros(0, np.int64)
            return Partners(length, length + 1, length, empty, empty.astype(bool), length + 1)
        longest = _last(lambda b: self._reached(length, length, b), length)
        lengths = np.arange(shortest, longest + 1)
        need = self._need(length, lengths)
        paired = np.fromiter((self.paired(b) for b in lengths.tolist()), bool, len(lengths))
        return Partners(length, shortest, longest, need, paired, int(need[0]))

    def _reached(self, lcs: int, a: int, b: int) -> bool:
        return f_measure(lcs, a, b) > self.threshold

    def _shortest(self, length: int) -> int:
        """The shortest text that can repeat one of ``length``; length + 1 where not even the same text does."""
        if not self._reached(length, length, length):
            return length + 1
        return length - _last(lambda less: less < length and self._reached(length - less, length, length - less), 0)

    def _need(self, a: int, b: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        # F = 2L/(a + b), so the least L is near threshold·(a + b)/2; the scorer's own arithmetic decides.
        need = np.maximum(1, np.floor(self.threshold * (a + b) / 2).astype(np.int64) - 1)
        while (below := f_measures(need, a, b) <= self.threshold).any():
            need += below
        return need


def _last(holds: object, first: int) -> int:
    """The last number from ``first`` on for which ``holds``, which is true up to it and false after."""
    assert callable(holds)
    step = 1
    while holds(first + step):
        step *= 2
    low, high = first + step // 2, first + step
    while high - low > 1:
        middle = math.floor((low + high) / 2)
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
