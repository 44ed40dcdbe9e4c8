"""How well a score tells two groups apart."""

from __future__ import annotations

from collections.abc import Sequence


def auc(better: Sequence[float], worse: Sequence[float]) -> float:
    """Area under the ROC curve, 0 to 1: how often one of the better scores above one of the worse, ties half.

    By the ranks' sum (Mann and Whitney 1947). NaN where a group is empty.
    """
    if not better or not worse:
        return float("nan")
    ordered = sorted([(value, 1) for value in better] + [(value, 0) for value in worse])
    wins, below, start = 0.0, 0, 0
    while start < len(ordered):
        end = start
        while end < len(ordered) and ordered[end][0] == ordered[start][0]:
            end += 1
        tied_better = sum(is_better for _, is_better in ordered[start:end])
        tied_worse = end - start - tied_better
        wins += tied_better * (below + tied_worse / 2)
        below += tied_worse
        start = end
    return wins / (len(better) * len(worse))
