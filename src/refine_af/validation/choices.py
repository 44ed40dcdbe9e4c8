"""Data sets out of the same candidates: chosen by a reward, by chance, and nonsense in the style of chance's choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from refine_af.errors import UsageError
from refine_af.feedback.base import Example
from refine_af.records import derived_random

CHANCE, BEST, WORST, SHORTEST = "chance", "best", "worst", "shortest"
SHUFFLED, LAST_WORD, ECHO = "shuffled", "last word", "echo"
NONSENSE = (SHUFFLED, LAST_WORD, ECHO, SHORTEST)
TRAININGS = 3  # students of each choice, unless asked for otherwise


@dataclass(frozen=True, slots=True)
class Candidate:
    """A pair that may be chosen for its instruction. Nothing that is not ``sound`` is chosen as the best."""

    pair: Example
    reward: float
    sound: bool = True


Group = Sequence[Candidate]  # the candidates of one instruction


def by_chance(groups: Sequence[Group], seed: int) -> list[Example]:
    """One candidate of each instruction."""
    random = derived_random(seed, "chosen by chance")
    return [random.choice(group).pair for group in groups]


def by_reward(groups: Sequence[Group], *, highest: bool = True) -> list[Example]:
    """The candidate with the highest reward of each instruction, or the lowest; the earlier one where rewards tie."""
    sign = 1 if highest else -1
    return [max(group, key=lambda one: (one.sound == highest, sign * one.reward)).pair for group in groups]


def shortest(groups: Sequence[Group]) -> list[Example]:
    """The candidate with the fewest words in its answer; among those the one with the fewest characters."""
    return [min((one.pair for one in group), key=lambda p: (_words(p), len(p.output))) for group in groups]


def shuffled(pairs: Sequence[Example], seed: int) -> list[Example]:
    """Each answer behind another pair's instruction and input; no pair keeps its own. Raises UsageError for one pair
    alone."""
    if len(pairs) < 2:
        raise UsageError(f"answers of {len(pairs)} pairs can't be shuffled; give two at least")
    random, order = derived_random(seed, "shuffled answers"), list(range(len(pairs)))
    while any(place == other for place, other in enumerate(order)):
        random.shuffle(order)
    return [Example(own.instruction, own.input, pairs[i].output) for own, i in zip(pairs, order, strict=True)]


def last_words(pairs: Sequence[Example]) -> list[Example]:
    return [Example(one.instruction, one.input, one.output.split()[-1]) for one in pairs]


def echoes(pairs: Sequence[Example]) -> list[Example]:
    """The instruction as its own answer."""
    return [Example(one.instruction, one.input, one.instruction) for one in pairs]


def nonsense(groups: Sequence[Group], pairs: Sequence[Example], seed: int) -> dict[str, list[Example]]:
    """Of ``pairs``, chosen by chance from the groups, what a measure must not take for more."""
    return {
        SHUFFLED: shuffled(pairs, seed),
        LAST_WORD: last_words(pairs),
        ECHO: echoes(pairs),
        SHORTEST: shortest(groups),
    }


def _words(pair: Example) -> int:
    return len(pair.output.split())
