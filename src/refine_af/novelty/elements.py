"""Texts as numbers: every word, and every further occurrence of a word in a text, is an element with a number.

Texts are read one by one, or many at once with arrays; what either reads is the same.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from refine_af.language import ENGLISH, Language

Ints = npt.NDArray[np.int32]
Rows = npt.NDArray[np.intp]

_END = "\0"
_IN_WORD = np.array([chr(code).isalnum() and code < 128 for code in range(256)])
_NOT_IN_WORD = bytes(np.flatnonzero(~_IN_WORD).tolist())
_TO_LOWER = bytes(range(256)).lower()
# The only characters outside ASCII whose lower case has an ASCII letter: the dotted capital I and the Kelvin sign.
_LOWERED_INTO_ASCII = {"\u0130": "i?", "\u212a": "k"}


class Elements(dict[str, int]):
    """Numbers in order of appearance: "the" and its second occurrence, "the 2", are two elements."""

    def __init__(self, language: Language = ENGLISH) -> None:
        self._tokens = language.tokens
        self._by_arrays = language.is_english  # whose tokens arrays can find
        self.first = array("i")  # (elements,), the number of the word's first occurrence

    def __missing__(self, label: str) -> int:
        number = self[label] = len(self)
        word, _, occurrence = label.partition(" ")
        self.first.append(self[word] if occurrence else number)
        return number

    def of(self, text: str) -> list[int]:
        """The elements of a text, those that are new with new numbers."""
        return [*map(self.__getitem__, labels(self._tokens(text)))]

    def of_many(self, texts: Sequence[str]) -> tuple[Ints, Ints]:
        """The elements of one text or more, in their order, and how many each text has: (n,), (texts,).

        Much quicker for thousands of texts than one by one, and slower for a few.
        """
        import pyarrow as pa

        words, codes, lengths = _words(texts) if self._by_arrays else _words_one_by_one(texts, self._tokens)
        numbers = np.array([self[word] for word in words], np.int32)[codes]
        places, occurrences = _repeated(codes, lengths, len(words))
        if len(places):
            # A word and an occurrence in one number, so that each different label is made once.
            pairs, pair = _different(pa.array(codes[places].astype(np.int64) << 32 | occurrences))
            repeated = [self[f"{words[pair >> 32]} {pair & 0xFFFFFFFF}"] for pair in pairs]
            numbers[places] = np.array(repeated, np.int32)[pair]
        return numbers, lengths


def labels(words: list[str]) -> list[str]:
    """A word's first occurrence is itself, its second "word 2", and so on: what repeats becomes different."""
    if len(set(words)) == len(words):
        return words
    labels, seen = words.copy(), dict.fromkeys(words, 0)
    for place, word in enumerate(words):
        seen[word] = count = seen[word] + 1
        if count > 1:
            labels[place] = f"{word} {count}"
    return labels


def _words(texts: Sequence[str]) -> tuple[list[str], Ints, Ints]:
    """The different words of English texts, for each token the place of its word among them, and each text's length.

    As they are read one by one: a character is in a token where it is an ASCII letter or digit once in lower case,
    which str.lower decides for each character by itself; the one rule that looks around, the Greek sigma's, makes no
    ASCII.
    """
    import pyarrow as pa

    joined = _END.join(texts)
    if joined.count(_END) != len(texts) - 1:  # a text holds the mark itself, which is in no token
        joined = _END.join([text.replace(_END, " ") for text in texts])
    for character, lowered in _LOWERED_INTO_ASCII.items():
        joined = joined.replace(character, lowered)
    raw = joined.encode("ascii", "replace")  # "?" for what isn't ASCII
    characters = np.frombuffer(raw, np.uint8)
    # A token's first place and the one after it, the next one's, and so on.
    edges = np.flatnonzero(np.diff(_IN_WORD[characters], prepend=False, append=False))
    before = np.searchsorted(edges[::2], np.flatnonzero(characters == ord(_END)))  # tokens before each text's end
    lengths = np.diff(before, prepend=0, append=len(edges) // 2).astype(np.int32)
    offsets = np.zeros(len(edges) // 2 + 1, np.int64)
    np.cumsum(edges[1::2] - edges[::2], out=offsets[1:])
    letters = raw.translate(_TO_LOWER, _NOT_IN_WORD)
    words = pa.LargeStringArray.from_buffers(len(offsets) - 1, pa.py_buffer(offsets), pa.py_buffer(letters))
    return *_different(words), lengths


def _words_one_by_one(texts: Sequence[str], tokens: Callable[[str], list[str]]) -> tuple[list[str], Ints, Ints]:
    """The same of texts of any language."""
    import pyarrow as pa

    of_each = [tokens(text) for text in texts]
    words = pa.array(chain.from_iterable(of_each), pa.large_string())
    return *_different(words), np.array([*map(len, of_each)], np.int32)


def _different(values: Any) -> tuple[list[Any], Ints]:
    """Each value of a pyarrow array once, and for each the place of its own among them; by an exact hash table."""
    found = values.dictionary_encode()
    return found.dictionary.to_pylist(), found.indices.to_numpy()


def _repeated(codes: Ints, lengths: Ints, words: int) -> tuple[Rows, Rows]:
    """The places of words that their text has had before, and which occurrence each is, from 2 on."""
    # By word and then by place, so that the occurrences of a word in a text stand together; 16 bits sort quickest.
    order = codes.astype(np.uint16 if words <= 1 << 16 else np.int32).argsort(kind="stable")
    word, text = codes[order], np.arange(len(lengths), dtype=np.int32).repeat(lengths)[order]
    again = np.flatnonzero((word[1:] == word[:-1]) & (text[1:] == text[:-1])) + 1
    # Neighbours in ``again`` that follow each other are of one word and text; a gap begins another's second occurrence.
    count = np.arange(len(again))
    begins = np.diff(again, prepend=-1) != 1
    return order[again], count - np.maximum.accumulate(np.where(begins, count, 0)) + 2
