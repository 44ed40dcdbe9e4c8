"""ROUGE-L and exact match as Super-NaturalInstructions scores them (Tk-Instruct, src/compute_metrics.py); of languages
other than English by their own words, without a stemmer."""

from __future__ import annotations

import string
from collections.abc import Sequence

from rapidfuzz.distance import LCSseq

from refine_af.evaluation.stemmer import stem
from refine_af.language import ENGLISH, Language
from refine_af.novelty import rouge_l as rouge_l_of_tokens
from refine_af.novelty.rouge import f_measure

_MOST_STEMS = 1 << 16
# Words of one stem have their first two letters in common, up to these: the stemmer makes y an i, and leaves of a vowel
# before "ing", "ings" or "eds" that vowel alone.
_ALIKE = {first + second: {first + "i", first + "y"} for first in string.ascii_lowercase for second in "iy"}
_ALIKE |= {vowel + second: {vowel, *(vowel + s for s in "iye")} for vowel in "aeiou" for second in ("", *"iye")}


class _Stems(dict[str, str]):
    """Word to stem, filled as it is asked; a dictionary, since a cached function takes twice the time to look up."""

    def __missing__(self, word: str) -> str:
        if len(self) == _MOST_STEMS:
            self.clear()
        # rouge-score stems only what is longer than three characters.
        self[word] = found = stem(word) if len(word) > 3 else word
        return found


_STEMS = _Stems()


def rouge_l(prediction: str, references: Sequence[str], language: Language = ENGLISH) -> float:
    """ROUGE-L F-measure, the best over the references, in [0, 100]; of English with the Porter stemmer."""
    alike = _rouge_l_of_stems if language.is_english else rouge_l_of_tokens
    words = language.tokens(prediction)
    return 100 * max(alike(words, language.tokens(reference)) for reference in references)


def _rouge_l_of_stems(a: list[str], b: list[str]) -> float:
    """In [0, 1]. Stems are looked up only of words that may have theirs in the other text."""
    short, long = sorted((a, b), key=len)
    long = _those_that_may_match(long, short)
    short = _those_that_may_match(short, long)
    stems = [list(map(_STEMS.__getitem__, words)) for words in (short, long)]
    return f_measure(LCSseq.similarity(*stems), len(a), len(b))


def _those_that_may_match(words: list[str], others: list[str]) -> list[str]:
    beginnings = {word[:2] for word in others}
    for start in beginnings.intersection(_ALIKE):
        beginnings |= _ALIKE[start]
    return [word for word in words if word[:2] in beginnings]


def exact_match(prediction: str, references: Sequence[str], language: Language = ENGLISH) -> float:
    """100 where the prediction equals a reference up to case, punctuation and white space, else 0."""
    answer = language.plain(prediction)
    return 100.0 * any(answer == language.plain(reference) for reference in references)
