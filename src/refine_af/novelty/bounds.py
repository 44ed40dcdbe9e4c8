"""What two texts must share to score above the threshold, given their lengths alone.

Every bound follows from two facts, both proved in one line:

- *Length.* LCS <= min(a, b), so a pair with F(min(a, b), a, b) <= threshold is out.
- *Overlap.* A common subsequence is a common multiset of tokens, so LCS <= overlap, and a pair must share at least
  ``need(a, b)``, the least L with F(L, a, b) > threshold.

The n-th occurrence of a word counts as an element of its own ("the", "the 2", ...), so that texts become sets of
elements and the multiset overlap becomes the size of an intersection.

- *Prefix.* Let S be ``need`` common elements and sort each text's elements by one fixed order, rare ones first. At most
  a - need elements of a text of a are outside S, so the first k elements of S are among its first a - need + k: two
  texts above the threshold have k elements in common within their prefixes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from refine_af.novelty.rouge import f_measure, f_measures

# Pairs of elements are rare, but grow with the square of the prefix: texts with a longer one are found by single
# elements, of which several must be shared.
LONGEST_PAIRED_PREFIX = 16
SHARED_SINGLES = 4


@dataclass(frozen=True)
class Kind:
    """How texts of some lengths are found: ``shared`` elements must lie in both prefixes, looked up in pairs or not."""

    paired: bool
    shared: int


@dataclass(frozen=True)
class Partners:
    """The texts that one of ``length`` tokens can repeat: theirs are ``shortest`` to ``longest`` tokens."""

    shortest: int
    longest: int
    need: npt.NDArray[np.int64]  # (longest - shortest + 1,), by the partner's length; it never falls
    least: int  # the least need of all
    kinds: tuple[tuple[Kind, int], ...]  # each kind of partners, and the length of this text's prefix for them


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

    def kind(self, length: int) -> Kind:
        """How kept texts of this length are found."""
        least = self._least_need(length)
        if least >= 2 and length - least + 2 <= LONGEST_PAIRED_PREFIX:
            return Kind(True, 2)
        return Kind(False, min(least, SHARED_SINGLES))

    def prefix(self, length: int) -> int:
        """How many rare elements of a kept text of this length are looked up; 0 where nothing can repeat it."""
        least = self._least_need(length)
        return length - least + self.kind(length).shared if least <= length else 0

    def _least_need(self, length: int) -> int:
        """The least need over all partners, which the shortest has; length + 1 where nothing reaches the threshold."""
        if length not in self._least:
            shortest = self._shortest(length)
            needs = self._need(length, np.array([shortest])) if shortest <= length else [length + 1]
            self._least[length] = int(needs[0])
        return self._least[length]

    def _compute(self, length: int) -> Partners:
        shortest = self._shortest(length)
        if shortest > length:
            return Partners(length + 1, length, np.zeros(0, np.int64), length + 1, ())
        longest = _last(lambda b: self._reached(length, length, b), length)
        need = self._need(length, np.arange(shortest, longest + 1))
        prefixes: dict[Kind, int] = {}
        for other, shared in zip(range(shortest, longest + 1), need.tolist(), strict=True):
            kind = self.kind(other)
            prefixes.setdefault(kind, length - shared + kind.shared)  # longest for the first: need never falls
        return Partners(shortest, longest, need, int(need[0]), tuple(prefixes.items()))

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


def _last(holds: Callable[[int], bool], first: int) -> int:
    """The last number from ``first`` on for which ``holds``, which is true up to it and false after."""
    step = 1
    while holds(first + step):
        step *= 2
    low, high = first + step // 2, first + step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
