"""Novelty of instructions by ROUGE-L: exact decisions, most pairs dismissed by bounds before the LCS is computed."""

from __future__ import annotations

import re
from collections.abc import Iterable

from rapidfuzz.distance import LCSseq

_TOKEN = re.compile(r"[a-z0-9]+")


def tokens(text: str) -> list[str]:
    """Lower-case runs of ASCII letters and digits: the tokens of `rouge-score` without its stemmer."""
    return _TOKEN.findall(text.lower())


def rouge_l(a: list[str], b: list[str]) -> float:
    """F-measure in [0, 1] of the longest common subsequence: 2·LCS / (len(a) + len(b)); 0 where one is empty."""
    if not a or not b:
        return 0.0
    return _f_measure(LCSseq.similarity(a, b), len(a), len(b))


def _f_measure(lcs: int, a: int, b: int) -> float:
    # In the order in which rouge-score computes it, so that equality at the threshold agrees bit by bit.
    if lcs == 0:
        return 0.0
    precision, recall = lcs / a, lcs / b
    return 2 * precision * recall / (precision + recall)


class NoveltyIndex:
    """The texts kept so far; answers which of them a new text repeats.

    ``threshold`` in (0, 1]: a text is a repetition where its ROUGE-L to any kept one is *greater than* it.
    """

    def __init__(self, threshold: float = 0.7) -> None:
        if not 0 < threshold <= 1:
            raise ValueError(f"threshold must lie in (0, 1], not {threshold}")
        self.threshold = threshold
        self._ids: list[str] = []
        self._known: set[str] = set()
        self._tokens: list[list[int]] = []
        self._by_length: dict[int, list[int]] = {}
        self._vocabulary: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, id: object) -> bool:
        return id in self._known

    def add(self, text: str, id: str | None = None) -> str:
        """Keeps the text; its id is the given one, or its place as a string. Returns the id."""
        words = [self._vocabulary.setdefault(w, len(self._vocabulary)) for w in tokens(text)]
        position = len(self._ids)
        self._ids.append(str(position) if id is None else id)
        self._known.add(self._ids[-1])
        self._tokens.append(words)
        self._by_length.setdefault(len(words), []).append(position)
        return self._ids[-1]

    def add_many(self, texts: Iterable[str]) -> list[str]:
        return [self.add(text) for text in texts]

    def nearest(self, text: str) -> tuple[float, str] | None:
        """The highest ROUGE-L above the threshold and its id, the earliest of several; None for a novel text."""
        best = self._search(text, self.threshold)
        return None if best is None else (best[0], self._ids[best[1]])

    def closest(self, text: str) -> tuple[float, str] | None:
        """The highest ROUGE-L to any kept text, however low, and its id; None where nothing shares a word."""
        best = self._search(text, 0.0)
        return None if best is None else (best[0], self._ids[best[1]])

    def _search(self, text: str, floor: float) -> tuple[float, int] | None:
        # A word that no kept text has matches nothing: -1 stands for all of those.
        words = [self._vocabulary.get(w, -1) for w in tokens(text)]
        known = sum(w != -1 for w in words)
        best: tuple[float, int] | None = None
        for length, positions in self._by_length.items():
            # LCS <= min(known words, the other's length), so no text of this length can exceed this bound.
            if not words or _f_measure(min(known, length), len(words), length) <= floor:
                continue
            for position in positions:
                score = _f_measure(
                    LCSseq.similarity(words, self._tokens[position]) if length else 0, len(words), length
                )
                if score > floor and (best is None or (score, -position) > (best[0], -best[1])):
                    best = (score, position)
        return best
