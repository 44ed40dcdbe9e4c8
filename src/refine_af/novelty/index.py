"""The texts kept so far, and which of them a new one repeats: exact, and nearly as quick in a large pool as in a small.

A decision passes five sieves, each a bound that can't lose a match (proofs in `bounds.py`):

1. signatures (`signatures.py`): texts that share no rare elements with the new one are never touched;
2. length;
3. bits: a sketch of 256, in which a bit of the one that the other lacks proves an element that it lacks;
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

from refine_af.language import ENGLISH, Language
from refine_af.novelty.bounds import Bounds
from refine_af.novelty.elements import Elements, Ints, Rows, labels
from refine_af.novelty.rouge import f_measure, f_measures
from refine_af.novelty.signatures import SignatureTable, fresh, spans

Match = tuple[float, str]
Counts = npt.NDArray[np.int64]
Sketches = npt.NDArray[np.uint64]

# The newest texts, which no table has: at most this many, or this share of all. An eighth means that a text is put
# into a table nine times in its life, however large the index grows.
_NEWEST = 1024
_NEWEST_SHARE = 8
_FEW = 12  # texts whose LCS is computed at once, without the overlap before it
_FIRST = 64  # texts that are tried before others are ruled out
_AT_ONCE = 4096  # texts whose elements are gathered at a time
_READ_AT_ONCE = 1 << 22  # characters of texts that are read with arrays at a time
_MANY = 1 << 20  # characters for which arrays pay for their start
_ZERO = np.zeros(1, np.int64)
_BITS = np.dtype("<u8")  # a sketch is four of these
_BIT = [1 << place for place in range(256)]
_SUM = np.ones(4, np.float32)  # sums the four numbers of a sketch; a product of floats is the quickest way to


class NoveltyIndex:
    """The texts kept so far; answers which of them a new text repeats.

    ``threshold`` in (0, 1]: a text is a repetition where its ROUGE-L to any kept one is *greater than* it.
    Texts are cut into words as their ``language`` is. Not for several threads at once.
    """

    def __init__(self, threshold: float = 0.7, language: Language = ENGLISH) -> None:
        if not 0 < threshold <= 1:
            raise ValueError(f"threshold must lie in (0, 1], not {threshold}")
        self.threshold = threshold
        self._tokens = language.tokens
        self._bounds = Bounds(threshold)
        self._ids: list[str | None] = []  # None: the place is the id
        self._named: set[str] = set()
        self._elements = Elements(language)
        self._kept = array("i")  # the elements of all texts, one text after another, each in its own order
        self._starts = array("q")
        self._lengths = array("i")
        self._sketches = bytearray()  # 32 bytes for each text
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
        arrays = (self._kept, self._starts, self._lengths, self._elements.first)
        in_arrays = sum(a.buffer_info()[1] * a.itemsize for a in arrays)
        return in_arrays + len(self._sketches) + self._table.nbytes + self._asked.nbytes

    def add(self, text: str, id: str | None = None) -> str:
        """Keeps the text; its id is the given one, or its place as a string. Returns the id."""
        id = self._append(text, id)
        self._digest()
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
                    names += self._append_many(some, their_ids)
                    some, their_ids, size = [], [], 0
        finally:  # also where the texts' source fails halfway: those before it are kept
            try:
                names += self._append_many(some, their_ids) if size >= _MANY else map(self._append, some, their_ids)
            finally:
                self._digest()
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
        words = self._tokens(text)
        elements = self._lookup(words)
        known = [e for e in elements if e >= 0]
        if not known:
            return None
        partners = self._bounds.partners(len(elements))
        if len(known) < partners.least:
            return None
        rows = self._table.candidates(known, len(words), partners)
        lengths = _ints(self._lengths)
        if len(self) > self._table.rows:
            newest = lengths[self._table.rows :]
            fitting = np.flatnonzero((newest >= partners.shortest) & (newest <= partners.longest))
            rows = np.concatenate((rows, fitting + self._table.rows))
        most = _at_most(known, self._all_sketches().take(rows, axis=0))
        enough = most >= partners.need[lengths[rows] - partners.shortest]
        rows, most = rows[enough], most[enough]
        if len(rows) > _FEW:
            order = rows.argsort()
            order = order[fresh(rows[order])]
            rows, most = rows[order], most[order]
        return self._search(words, known, rows, most, self.threshold)

    def closest(self, text: str) -> Match | None:
        """The highest ROUGE-L to any kept text, however low, and its id; None where nothing shares a word.

        It looks at the sketch of every text, so its cost grows with the index, unlike that of ``nearest``.
        """
        words = self._tokens(text)
        elements = self._lookup(words)
        known = [e for e in elements if e >= 0]
        if not known:
            return None
        most = np.minimum(_at_most(known, self._all_sketches()), _ints(self._lengths))
        rows = np.flatnonzero(most > 0)
        return self._search(words, known, rows, most[rows], 0.0)

    def _append(self, text: str, id: str | None) -> str:
        elements = self._elements.of(text)
        self._starts.append(len(self._kept))
        self._lengths.append(len(elements))
        self._kept.extend(elements)
        self._ids.append(id)
        if id is None:
            return str(len(self._ids) - 1)
        self._named.add(id)
        return id

    def _append_many(self, texts: list[str], ids: list[str | None]) -> list[str]:
        elements, lengths = self._elements.of_many(texts)
        starts = len(self._kept) + np.cumsum(lengths, dtype=np.int64) - lengths
        self._starts.frombytes(starts.tobytes())
        self._lengths.frombytes(lengths.tobytes())
        self._kept.frombytes(elements.tobytes())
        self._sketch_newest()
        place = len(self._ids)
        self._ids += ids
        self._named.update(id for id in ids if id is not None)
        return [str(place + i) if id is None else id for i, id in enumerate(ids)]

    def _lookup(self, words: list[str]) -> list[int]:
        """The elements of a text; -1 for those that no kept text has: they match nothing."""
        number = self._elements.get
        return [number(label, -1) for label in labels(words)]

    def _all_sketches(self) -> Sketches:
        return np.frombuffer(self._sketches, _BITS).reshape(-1, 4)

    def _overlap(self, known: list[int], rows: Rows) -> Counts:
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

    def _search(self, words: list[str], known: list[int], rows: Rows, most: Counts, floor: float) -> Match | None:
        """The best of these rows above the floor; each shares at most so many elements with the text."""
        if len(rows) > _FIRST:
            # The most promising first: what they reach rules out nearly all others.
            bounds = self._reachable(words, rows, most)
            some = np.argpartition(bounds, -_FIRST)[-_FIRST:]
            if found := self._best(words, known, rows[some], most[some], floor):
                likely = bounds >= found[0]
                rows, most = rows[likely], most[likely]
        return self._best(words, known, rows, most, floor)

    def _best(self, words: list[str], known: list[int], rows: Rows, most: Counts, floor: float) -> Match | None:
        """The same by overlap, best bound first: LCS <= overlap, so it ends where no bound beats the best score."""
        if len(rows) > _FEW:
            most = self._overlap(known, rows)
            rows, most = rows[most > 0], most[most > 0]
        if not len(rows):
            return None
        bounds = self._reachable(words, rows, most)
        order = np.lexsort((rows, -bounds))
        first, kept, starts, lengths = _ints(self._elements.first), _ints(self._kept), self._starts, self._lengths
        numbers = [self._elements.get(word, -1) for word in words]
        best, best_row = floor, -1
        for bound, row in zip(bounds[order].tolist(), rows[order].tolist(), strict=True):
            if bound < best or (bound == best and row > best_row):
                break
            sequence = first[kept[starts[row] : starts[row] + lengths[row]]].tolist()
            score = f_measure(LCSseq.similarity(numbers, sequence), len(words), lengths[row])
            if score > best or (score == best and row < best_row):
                best, best_row = score, row
        if best_row < 0:
            return None
        return best, self._id(best_row)

    def _reachable(self, words: list[str], rows: Rows, most: Counts) -> npt.NDArray[np.float64]:
        """The score of each row if all that it may share were in order."""
        lengths = _ints(self._lengths)[rows]
        return np.asarray(f_measures(np.minimum(most, lengths), len(words), lengths))

    def _id(self, place: int) -> str:
        id = self._ids[place]
        return str(place) if id is None else id

    def _digest(self) -> None:
        """Sketches what was added, and makes the table anew once the newest, which it lacks, are many."""
        self._sketch_newest()
        if len(self) - self._table.rows > max(_NEWEST, len(self) // _NEWEST_SHARE):
            self._table = SignatureTable(
                self._bounds, _ints(self._kept), np.frombuffer(self._starts, np.int64), _ints(self._lengths)
            )

    def _sketch_newest(self) -> None:
        done = len(self._sketches) // 32
        if len(self) - done <= _FEW:
            for row in range(done, len(self)):
                self._sketches += _sketch(self._kept[self._starts[row] : self._starts[row] + self._lengths[row]])
            return
        elements, lengths = _ints(self._kept)[self._starts[done] :], _ints(self._lengths)[done:]
        sketches = np.zeros(4 * len(lengths), _BITS)
        parts = np.arange(0, 4 * len(lengths), 4).repeat(lengths) + (elements >> 6 & 3)
        np.bitwise_or.at(sketches, parts, np.uint64(1) << (elements & 63).astype(np.uint64))
        self._sketches += sketches.tobytes()


def _sketch(elements: Iterable[int]) -> bytes:
    """Of one text: the bits of its elements, of 256."""
    bits = 0
    for element in elements:
        bits |= _BIT[element & 255]
    return bits.to_bytes(32, "little")


def _at_most(elements: list[int], others: Sketches) -> Counts:
    """How many of a text's elements each of the others (texts, 4) may share: (texts,).

    A bit of the sketch that another lacks stands for at least one element that it lacks.
    """
    sketch = np.frombuffer(_sketch(elements), _BITS)
    lacking = int(np.bitwise_count(sketch).sum()) - np.bitwise_count(others & sketch) @ _SUM
    return len(elements) - lacking.astype(np.int64)


def _ints(values: array[int]) -> Ints:
    return np.frombuffer(values, np.int32)
