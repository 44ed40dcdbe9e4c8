"""Which seed tasks the prompts for pairs show: sets of a few, drawn by the seed, that take turns.

One set for all prompts would put its topics into every pair. Which set a prompt shows depends on what it asks, so it is
the same in every batch and process; an engine reads each set once a call. With the sentence encoder an input is asked
for behind a set that has the seed task most like the instruction: a small model writes what fits behind an example that
fits. Where inputs open as a seed's do, that is the likest seed's, and what is shown is the next: a model that was shown
how its text goes on would say it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import get_args

from refine_af.config import Config
from refine_af.language import Language
from refine_af.prompts.pairs import ANSWERS, Turn, shows
from refine_af.records import SeedTask, derived_random, derived_seed
from refine_af.stages.openers import Near, Nearest, Openers

FEWEST_SETS = 8
Shown = tuple[SeedTask, ...]


class Demonstrations:
    """The sets of each turn, out of the seed tasks that may be shown.

    ``near`` tells, of an instruction, how like it each of the tasks is, in [-1, 1]: then a prompt for an input or a
    label shows a set with the one that is most like what it asks for. Without it, any set.
    """

    def __init__(self, tasks: Sequence[SeedTask], config: Config, *, is_chat: bool, near: Near | None = None) -> None:
        self._seed = config.seed
        language = config.reads
        self._nearest = None if near is None else Nearest(tasks, near)
        self._openers = Openers(tasks, near, language) if near and config.instances.opened_inputs else None
        longest = config.instances.max_demonstration_words
        self._sets: dict[Turn, list[Shown]] = {}
        for turn in get_args(Turn):
            count = _count(turn, config, is_chat)
            fitting = _fitting([t for t in tasks if shows(turn, t)], longest, count, language)
            self._sets[turn] = _sets(fitting, count, config.seed, turn)

    def sets(self, turn: Turn) -> list[Shown]:
        """All sets of a turn: one empty one where there is nothing to show."""
        return self._sets[turn]

    def of(self, turn: Turn, instruction: str, asked: str) -> Shown:
        """The set that a prompt shows which asks this for an instruction; never one with the instruction itself, or
        with the task as which its input opens, as long as there is another."""
        sets = self._sets[turn]
        opener = None if self._openers is None else self._openers.of(turn, instruction)
        never = {instruction, opener.instruction if opener is not None else instruction}
        others = [some for some in sets if all(t.instruction not in never for t in some)] or sets
        # An answer behind the nearest task is too often that task's.
        if turn in ANSWERS or self._nearest is None:
            nearest = None
        else:
            nearest = self._nearest.of(instruction, chain.from_iterable(others))
        if nearest is not None:
            others = [some for some in others if nearest in some]
        return others[derived_seed(self._seed, "shown", turn, asked) % len(others)]

    def opening(self, turn: Turn, instruction: str, asked: str) -> str:
        """The first words with which a turn's input is to open, as the nearest task's does; empty where none are
        given."""
        possible = [] if self._openers is None else self._openers.openings(turn, instruction)
        return derived_random(self._seed, "opening", turn, asked).choice(possible) if possible else ""


def _count(turn: Turn, config: Config, is_chat: bool) -> int:
    options = config.instances
    if turn not in ANSWERS:
        return options.demonstrations
    if options.answer_demonstrations is not None:
        return options.answer_demonstrations
    return 0 if is_chat else options.demonstrations


def _fitting(tasks: Sequence[SeedTask], longest: int, count: int, language: Language) -> list[SeedTask]:
    """Those of at most ``longest`` words with their pair; the shortest where these are too few for a set."""
    short = [t for t in tasks if t.words(language) <= longest]
    return short if len(short) >= count else sorted(tasks, key=lambda t: (t.words(language), t.id))[:count]


def _sets(tasks: Sequence[SeedTask], count: int, seed: int, turn: Turn) -> list[Shown]:
    """Each task comes once before any comes again, and no set holds one twice."""
    size = min(count, len(tasks))
    if size == 0:
        return [()]
    wanted = max(FEWEST_SETS, -(-len(tasks) // size))
    decks = []
    for number in range(-(-wanted * size // len(tasks)) + 1):
        deck = list(tasks)
        derived_random(seed, "demonstrations", turn, number).shuffle(deck)
        decks.append(deck)
    waiting = list(chain.from_iterable(decks))
    sets: list[Shown] = []
    while len(sets) < wanted:
        chosen: list[SeedTask] = []
        while len(chosen) < size:
            chosen.append(waiting.pop(next(i for i, t in enumerate(waiting) if t not in chosen)))
        sets.append(tuple(chosen))
    return sets
