"""ROUGE-L and exact match as Super-NaturalInstructions scores them (Tk-Instruct, src/compute_metrics.py)."""

from __future__ import annotations

import string
from collections.abc import Sequence
from functools import lru_cache

from nltk.stem.porter import PorterStemmer

from refine_af.novelty import rouge_l as rouge_l_of_tokens
from refine_af.novelty import tokens

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_STEMMER = PorterStemmer()


@lru_cache(maxsize=1 << 16)
def _stem(token: str) -> str:
    # rouge-score stems only what is longer than three characters.
    return str(_STEMMER.stem(token)) if len(token) > 3 else token


def rouge_l(prediction: str, references: Sequence[str]) -> float:
    """ROUGE-L F-measure with the Porter stemmer, the best over the references, in [0, 100]."""
    words = [_stem(t) for t in tokens(prediction)]
    return 100 * max(rouge_l_of_tokens([_stem(t) for t in tokens(r)], words) for r in references)


def exact_match(prediction: str, references: Sequence[str]) -> float:
    """100 where the prediction equals a reference up to case, punctuation and white space, else 0."""
    return 100.0 * any(_normal(prediction) == _normal(r) for r in references)


def _normal(text: str) -> str:
    return " ".join(text.lower().translate(_PUNCTUATION).split())
