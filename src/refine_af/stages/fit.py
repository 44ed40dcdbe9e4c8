"""Whether answers earn their reward where they belong: what they get behind their own tasks over what the same answers
get behind others.

A policy may raise a reward by answers that fit their tasks better, or by a style that the reward pays for behind any
task. Both raise the reward; only the first raises this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from refine_af.evaluation.significance import Difference, paired_difference
from refine_af.feedback.base import Example, Feedback
from refine_af.records import derived_random

# Instruction to a pair of it, with what the pair was paid.
Paid = Mapping[str, tuple[Example, float]]


@dataclass(frozen=True, slots=True)
class Fit:
    """In points of reward, means over answers. 0: the reward reads the answer alone, or the answers fit no better than
    others' would."""

    before: float
    after: float
    difference: Difference


def fit_of(reward: Feedback, before: Paid, after: Paid, seed: int) -> Fit | None:
    """Over the instructions that have a pair both times.

    Each answer is judged once more, behind the prompt of one other instruction, the same before and after. Where it
    fails a gate there, the reward is the gate's and says nothing of the answer: that instruction is left out. None
    where fewer than two are left.
    """
    both = sorted(before.keys() & after.keys())
    derived_random(seed, "fit").shuffle(both)
    found = zip(_fits(reward, before, both), _fits(reward, after, both), strict=True)
    fits = [(was, became) for was, became in found if was is not None and became is not None]
    if len(fits) < 2:
        return None
    was, became = map(list, zip(*fits, strict=True))
    return Fit(fmean(was), fmean(became), paired_difference(was, became, seed=seed))


def _fits(reward: Feedback, paid: Paid, ids: Sequence[str]) -> list[float | None]:
    own = [paid[id] for id in ids]
    others = [*own[1:], *own[:1]]
    moved = [
        Example(other.instruction, other.input, one.output) for (one, _), (other, _) in zip(own, others, strict=True)
    ]
    elsewhere = reward.judge(moved)
    return [value - judged.reward if judged.sound else None for (_, value), judged in zip(own, elsewhere, strict=True)]
