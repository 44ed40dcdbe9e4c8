"""The texts kept so far, and which of them a new one repeats: exact, and nearly as quick in a large pool as in a small.

A decision passes five sieves, each a bound that can't lose a match (proofs in `bounds.py`):

1. signatures (`signatures.py`): texts that share no rare elements with the new one are never touched;
2. length;
3. bits: a 64-bit sketch in which a bit of the one that the other lacks proves an element that it lacks;
4. overlap: the number of shared elements;
5. the LCS itself, best bound first, until no bound left can beat the best score found.

Texts added since the table of signatures was made skip the first sieve; the table is made anew when they are many.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from itertools import repeat

import numpy as np
import numpy.typing as npt
from rapidfuzz.distance import LCSseq

from refine_af.novelty.bounds import Bounds, Partners
from refine_af.novelty.elements import Elements, Ints, Rows, labels
from refine_af.novelty.rouge import f_measure, f_measures, tokens
from refine_af.novelty.signatures import SignatureTable, different, spans

Match = tuple[float, str]

# The newest texts, which no table has: at most this many, or this share of all. An eighth means that a text is put
# into a table nine times in its life, however large the index grows.
_NEWEST = 1024
_NEWEST_SHARE = 8
_FEW = 12  # texts whose LCS is computed at once, without the overlap before it
_FIRST = 256  # texts that `closest` tries before it rules out others
_AT_ONCE = 4096  # texts whose elements are gathered at a time
_READ_AT_ONCE = 1 << 22  # characters
_ZERO = np.zeros(1, np.int64)


class NoveltyIndex:
    """The texts kept so far; answers which of them a new text repeats.

    ``threshold`` in (0, 1]: a text is a repetition where its ROUGE-L to any kept one is *greater than* it.
    Not for several threads at once.
    """

    def __init__(self, threshold: float = 0.7) -> None:
        if not 0 < threshold <= 1:
            raise ValueError(f"threshold must lie in (0, 1], not {threshold}")
        self.threshold = threshold
        self._bounds = Bounds(threshold)
        self._ids: list[str | None] = []  # None: the place is the id
        self._named: set[str] = set()
        self._elements = Elements()
        self._kept = array("i")  # the elements of all texts, one text after another, each in its own order
        self._starts = array("q")
        self._lengths = array("i")
        self._sketches = array("Q")
        self._asked = np.zeros(0, bool)  # (elements or more,), set for the elements of the text that is asked about
        self._table = SignatureTable(self._bounds, np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0, np.int32))

    def __len__(self) -> int:
        return len(self._lengths)

    def __contains__(self, id: object) -> bool:
        if id in self._named:
            return True
        if not isinstance(id, str) or not (id.isascii() and id.isdigit()):
            return False
        place = int(id)
        return place < len(self) and self._ids[place] is None and str(place) == id

    @property
    def nbytes(self) -> int:
        """Bytes that its arrays hold: ids and vocabulary are left out."""
        arrays = (self._kept, self._starts, self._lengths, self._sketches, self._elements.first)
        return sum(a.buffer_info()[1] * a.itemsize for a in arrays) + self._table.nbytes + self._asked.nbytes

    def add(self, text: str, id: str | None = None) -> str:
        """Keeps the text; its id is the given one, or its place as a string. Returns the id."""
        elements = self._elements.of(text)
        self._starts.append(len(self._kept))
        self._lengths.append(len(elements))
        self._kept.extend(elements)
        self._sketches.append(_sketch(elements))
        id = self._name([id])[0]
        self._renew_table()
        return id

    def add_many(self, texts: Iterable[str], ids: Iterable[str] | None = None) -> list[str]:
        """Keeps the texts, which is much quicker than one by one. Returns their ids."""
        names: list[str] = []
        some: list[str] = []
        their_ids: list[str | None] = []
        size = 0
        try:
            for text, id in zip(texts, repeat(None)) if ids is None else zip(texts, ids, strict=True):
                size += len(text)
                some.append(text)
                their_ids.append(id)
                if size >= _READ_AT_ONCE:
                    names += self._add_read(some, their_ids)
                    some, their_ids, size = [], [], 0
        finally:  # also where the texts' source fails halfway: those before it are kept
            names += self._add_read(some, their_ids)
            self._renew_table()
        return names

    def extend_if_novel(self, texts: Iterable[str], ids: Iterable[str] | None = None) -> list[Match | None]:
        """Decides one text after another and keeps the novel ones.

        For each text: None where it was kept, else the score and id of what it repeats, maybe a text before it.
        """
        found: list[Match | None] = []
        names = iter(ids) if ids is not None else None
        for text in texts:
            match, id = self.nearest(text), None if names is None else next(names)
            if match is None:
                self.add(text, id)
            found.append(match)
        return found

    def nearest(self, text: str) -> Match | None:
        """The highest ROUGE-L above the threshold and its id, the earliest of several; None for a novel text."""
        words = tokens(text)
        elements = self._lookup(words)
        known = [e for e in elements if e >= 0]
        if not known:
            return None
        partners = self._bounds.partners(len(elements))
        if len(known) < partners.least:
            return None
        sketch = np.uint64(_sketch(known))
        rows, most = self._sieve(self._table.candidates(known, len(words), partners), partners, sketch, len(known))
        if len(self) > self._table.rows:
            newest = np.arange(self._table.rows, len(self), dtype=np.intp)
            new_rows, new_most = self._sieve(newest, partners, sketch, len(known))
            rows, most = np.concatenate((rows, new_rows)), np.concatenate((most, new_most))
        if len(rows) > _FEW:
            rows = different(np.sort(rows))
            most = self._overlap(known, rows)
            enough = most >= partners.need[_ints(self._lengths)[rows] - partners.shortest]
            rows, most = rows[enough], most[enough]
        return self._best(words, rows, most, self.threshold)

    def closest(self, text: str) -> Match | None:
        """The highest ROUGE-L to any kept text, however low, and its id; None where nothing shares a word.

        It looks at the sketch of every text, so its cost grows with the index, unlike that of ``nearest``.
        """
        words = tokens(text)
        elements = self._lookup(words)
        known = [e for e in elements if e >= 0]
        if not known:
            return None
        lengths = _ints(self._lengths)
        lacking = np.bitwise_count(np.uint64(_sketch(known)) & ~np.frombuffer(self._sketches, np.uint64))
        most = np.minimum(len(known) - lacking.astype(np.int32), lengths)
        rows = np.flatnonzero(most > 0)
        bound = f_measures(most[rows], len(elements), lengths[rows])
        # The most promising first: what they reach rules out nearly all others.
        some = rows if len(rows) <= _FIRST else rows[np.argpartition(bound, -_FIRST)[-_FIRST:]]
        found = self._best_sharing(words, known, some)
        return self._best_sharing(words, known, rows[bound >= found[0]] if found else rows)

    def _best_sharing(self, words: list[str], known: list[int], rows: Rows) -> Match | None:
        overlap = self._overlap(known, rows)
        return self._best(words, rows[overlap > 0], overlap[overlap > 0], 0.0)

    def _add_read(self, texts: list[str], ids: list[str | None]) -> list[str]:
        elements, lengths = self._elements.of_many(texts)
        ends = np.cumsum(lengths, dtype=np.int64)
        sketches, full = np.zeros(len(texts), np.uint64), lengths > 0
        if full.any():
            bits = np.uint64(1) << (elements & 63).astype(np.uint64)
            sketches[full] = np.bitwise_or.reduceat(bits, (ends - lengths)[full])
        self._starts.frombytes((len(self._kept) + ends - lengths).tobytes())
        self._lengths.frombytes(lengths.tobytes())
        self._kept.frombytes(elements.tobytes())
        self._sketches.frombytes(sketches.tobytes())
        return self._name(ids)

    def _name(self, ids: list[str | None]) -> list[str]:
        """Names the newest texts."""
        place = len(self._ids)
        self._ids += ids
        self._named.update(id for id in ids if id is not None)
        return [str(place + i) if id is None else id for i, id in enumerate(ids)]

    def _lookup(self, words: list[str]) -> list[int]:
        """The elements of a text; -1 for those that no kept text has: they match nothing."""
        number = self._elements.get
        return [number(label, -1) for label in labels(words)]

    def _sieve(
        self, rows: Rows, partners: Partners, sketch: np.uint64, known: int
    ) -> tuple[Rows, npt.NDArray[np.int64]]:
        """The rows whose length and sketch allow a score above the threshold, and how many elements they may share."""
        places = _ints(self._lengths)[rows] - partners.shortest
        right = (places >= 0) & (places < len(partners.need))
        rows, places = rows[right], places[right]
        # A bit that the other lacks stands for at least one element that it lacks.
        most = known - np.bitwise_count(sketch & ~np.frombuffer(self._sketches, np.uint64)[rows]).astype(np.int64)
        allowed = most >= partners.need[places]
        return rows[allowed], most[allowed]

    def _overlap(self, known: list[int], rows: Rows) -> npt.NDArray[np.int64]:
        """How many elements each of the rows (n,) shares with the text; texts are sets of elements: (n,)."""
        if len(self._asked) < len(self._elements):
            self._asked = np.zeros(len(self._elements) * 5 // 4, bool)
        starts, lengths = np.frombuffer(self._starts, np.int64)[rows], _ints(self._lengths)[rows]
        elements, overlap = _ints(self._kept), np.empty(len(rows), np.int64)
        self._asked[known] = True
        for at in range(0, len(rows), _AT_ONCE):
            many = lengths[at : at + _AT_ONCE]
            shared = self._asked[elements[spans(starts[at : at + _AT_ONCE], many)]].cumsum(dtype=np.int64)
            through = np.concatenate((_ZERO, shared))[np.concatenate((_ZERO, many.cumsum()))]
            overlap[at : at + _AT_ONCE] = through[1:] - through[:-1]
        self._asked[known] = False
        return overlap

    def _best(self, words: list[str], rows: Rows, overlap: npt.NDArray[np.int64], floor: float) -> Match | None:
        """The best of these rows above the floor. LCS <= overlap, so the search ends where no bound beats the best."""
        if not len(rows):
            return None
        length, lengths = len(words), _ints(self._lengths)[rows]
        bounds = f_measures(np.minimum(overlap, lengths), length, lengths)
        order = np.lexsort((rows, -bounds))
        first, kept, starts = _ints(self._elements.first), _ints(self._kept), self._starts
        numbers = [self._elements.get(word, -1) for word in words]
        best, best_row = floor, -1
        for bound, row, other in zip(
            bounds[order].tolist(), rows[order].tolist(), lengths[order].tolist(), strict=True
        ):
            if bound < best or (bound == best and row > best_row):
                break
            sequence = first[kept[starts[row] : starts[row] + other]].tolist()
            score = f_measure(LCSseq.similarity(numbers, sequence), length, other)
            if score > best or (score == best and row < best_row):
                best, best_row = score, row
        if best_row < 0:
            return None
        return best, self._id(best_row)

    def _id(self, place: int) -> str:
        id = self._ids[place]
        return str(place) if id is None else id

    def _renew_table(self) -> None:
        """Makes the table anew once the newest texts, which it lacks, are many."""
        if len(self) - self._table.rows > max(_NEWEST, len(self) // _NEWEST_SHARE):
            self._table = SignatureTable(
                self._bounds, _ints(self._kept), np.frombuffer(self._starts, np.int64), _ints(self._lengths)
            )


def _sketch(elements: list[int]) -> int:
    bits = 0
    for element in elements:
        bits |= 1 << (element & 63)
    return bits


def _ints(values: array[int]) -> Ints:
    return np.frombuffer(values, np.int32)
