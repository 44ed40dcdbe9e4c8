"""ROUGE-L and exact match as Super-NaturalInstructions scores them (Tk-Instruct, src/compute_metrics.py)."""

from __future__ import annotations

import string
from collections.abc import Sequence
from functools import lru_cache

from nltk.stem.porter import PorterStemmer
from rapidfuzz.distance import LCSseq

from refine_af.novelty import tokens
from refine_af.novelty.rouge import f_measure

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_STEMMER = PorterStemmer()
# Of these the stemmer leaves one letter, of all others that it takes two or more.
_TO_ONE_LETTER = {vowel + ending for vowel in "aeiou" for ending in ("ing", "ings", "eds")} - {"eeds"}


def rouge_l(prediction: str, references: Sequence[str]) -> float:
    """ROUGE-L F-measure with the Porter stemmer, the best over the references, in [0, 100]."""
    words = tokens(prediction)
    return 100 * max(_rouge_l_of_stems(words, tokens(reference)) for reference in references)


def _rouge_l_of_stems(a: list[str], b: list[str]) -> float:
    """In [0, 1]. Stemming is what costs, so only words that may have a stem in the other text are stemmed."""
    beginnings = [list(map(_beginning, words)) for words in (a, b)]
    shared = set(beginnings[0]).intersection(beginnings[1])
    if not shared:
        return 0.0
    stems = [
        [_stem(word) for word, beginning in zip(words, theirs, strict=True) if beginning in shared]
        for words, theirs in zip((a, b), beginnings, strict=True)
    ]
    return f_measure(LCSseq.similarity(*stems), len(a), len(b))


@lru_cache(maxsize=1 << 16)
def _beginning(word: str) -> str:
    """Equal for words of one stem: the Porter stemmer leaves the first letter, and the second up to y for i."""
    return word[0] if word in _TO_ONE_LETTER else word[:2].replace("y", "i")


@lru_cache(maxsize=1 << 16)
def _stem(word: str) -> str:
    # rouge-score stems only what is longer than three characters.
    return str(_STEMMER.stem(word)) if len(word) > 3 else word


def exact_match(prediction: str, references: Sequence[str]) -> float:
    """100 where the prediction equals a reference up to case, punctuation and white space, else 0."""
    answer = _normal(prediction)
    return 100.0 * any(answer == _normal(reference) for reference in references)


def _normal(text: str) -> str:
    return " ".join(text.lower().translate(_PUNCTUATION).split())
