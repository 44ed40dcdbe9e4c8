"""Judges many pairs, some at a time, so that a reward with a memory goes on where it was stopped."""

from __future__ import annotations

from collections.abc import Sequence

from refine_af.feedback.base import Example, Feedback, Judgement
from refine_af.progress import Progress

_AT_ONCE = 64


def judge_all(reward: Feedback, pairs: Sequence[Example], progress: Progress, title: str) -> list[Judgement]:
    """In the order of the pairs; progress is shown under the title."""
    found: list[Judgement] = []
    progress.begin(title, len(pairs), "pairs judged")
    for start in range(0, len(pairs), _AT_ONCE):
        found += reward.judge(pairs[start : start + _AT_ONCE])
        progress.update(len(found))
    return found
