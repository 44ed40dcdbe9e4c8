"""ROUGE-L of two lists of tokens, in the arithmetic of `rouge-score`, bit by bit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rapidfuzz.distance import LCSseq


def rouge_l(a: Sequence[str], b: Sequence[str]) -> float:
    """F-measure in [0, 1] of the longest common subsequence: 2·LCS / (len(a) + len(b)); 0 where one is empty."""
    return f_measure(LCSseq.similarity(a, b), len(a), len(b))


def f_measure(lcs: int, a: int, b: int) -> float:
    """The score of two texts of ``a`` and ``b`` tokens with ``lcs`` in common; 0 where they have none."""
    return float(f_measures(lcs, a, b)) if lcs else 0.0


def f_measures(lcs: Any, a: Any, b: Any) -> Any:
    """The same for numbers or arrays, every ``lcs`` at least 1.

    In the order in which `rouge-score` computes it, so that equality at the threshold agrees bit by bit. It rises
    strictly with ``lcs``: one more token is a relative step of 1/lcs, far above the rounding of 1e-15. It is symmetric
    in ``a`` and ``b``, doubling being exact.
    """
    precision, recall = lcs / a, lcs / b
    return 2 * precision * recall / (precision + recall)
