"""What of a reward is the length's alone, taken off what training pays for.

A reward that falls with length, however little, is raised most easily by brevity: each answer of a policy can be cut,
few can be made better. What is paid for is then the reward among answers of like length.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean

from refine_af.stages.context import Context
from refine_af.stages.pairs import WrittenPair

Sized = tuple[int, float]  # words of an answer, and its reward


def length_neutral(context: Context, written: Sequence[WrittenPair], iteration: int) -> dict[int, float]:
    """Places of the iteration's sound pairs to their rewards, less what length alone has been worth in the rollouts so
    far. The mean of an instruction's pairs stays what it was."""
    language = context.config.reads
    groups: dict[str, list[int]] = defaultdict(list)
    for place, one in enumerate(written):
        if one.sound:
            groups[one.instruction.id].append(place)
    sized = [(language.count(one.output), one.judgement.reward) for one in written]
    slope = length_slope([*_earlier(context, iteration), *([sized[place] for place in of] for of in groups.values())])
    paid: dict[int, float] = {}
    for of in groups.values():
        middle = fmean(_log(sized[place]) for place in of)
        paid |= {place: sized[place][1] - slope * (_log(sized[place]) - middle) for place in of}
    return paid


def _earlier(context: Context, iteration: int) -> list[list[Sized]]:
    """Sound pairs of the iterations before, by iteration and instruction."""
    groups: dict[tuple[int, str], list[Sized]] = defaultdict(list)
    for row in context.store.query(
        "SELECT iteration, instruction_id, text, reward FROM rollouts "
        "WHERE split = 'train' AND sound AND iteration < ? ORDER BY iteration, position",
        iteration,
    ):
        words = context.config.reads.count(row["text"])
        groups[row["iteration"], row["instruction_id"]].append((words, row["reward"]))
    return list(groups.values())


def length_slope(groups: Sequence[Sequence[Sized]]) -> float:
    """Points of reward for an e-fold of words: the slope of least squares within groups of answers to one task, as the
    analysis of covariance has it. 0 where no group has answers of different lengths."""
    crossed = squared = 0.0
    for group in groups:
        middle, mean = fmean(map(_log, group)), fmean(reward for _, reward in group)
        crossed += sum((_log(one) - middle) * (one[1] - mean) for one in group)
        squared += sum((_log(one) - middle) ** 2 for one in group)
    return crossed / squared if squared > 1e-9 else 0.0


def _log(one: Sized) -> float:
    """Of one word more than there are, so that none at all has a logarithm."""
    return math.log1p(one[0])
