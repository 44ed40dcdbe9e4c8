"""As which seed's input a new one opens, and whether an instruction is one for which a small model writes an input that
fits.

What a small model writes as an input fits seldom unless it opens as the input of a task like this one does. So where no
task is like it, or the likest has an input as which no other can open (a table, a list, a number), no pair is expected.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from refine_af.language import Language
from refine_af.prompts.pairs import INPUTS, Turn, shows
from refine_af.records import SeedTask

_LONGEST_OPENING = 6  # words
_LETTERS = re.compile(r"[^\W\d_]{2}")
_SENTENCE_ENDS = ".!?。！？؟।"
# Of 27 pairs whose instruction was less like any seed task with an input, and of 70 whose likest had an input that
# can't be opened, readers called none usable, and 30 of the other 367 (all-MiniLM-L6-v2, built-in seeds).
_LIKE = 0.5
# Of an instruction, how like it each of some tasks is, in [-1, 1].
Near = Callable[[str], NDArray[np.float32]]


class Nearest:
    """The task that is most like an instruction, and not its own."""

    def __init__(self, tasks: Sequence[SeedTask], near: Near) -> None:
        self._near = near
        self._place = {task: place for place, task in enumerate(tasks)}

    def of(self, instruction: str, among: Iterable[SeedTask]) -> SeedTask | None:
        """None where there is no other."""
        likeness = self._near(instruction)
        others = (t for t in among if t.instruction != instruction)
        return max(others, key=lambda t: (likeness[self._place[t]], t.id), default=None)

    def likeness(self, instruction: str, task: SeedTask) -> float:
        return float(self._near(instruction)[self._place[task]])


class Openers:
    """Of seed tasks, as whose inputs those of other instructions open."""

    def __init__(self, tasks: Sequence[SeedTask], near: Near, language: Language) -> None:
        self._nearest = Nearest(tasks, near)
        self._with_input = {turn: [t for t in tasks if shows(turn, t)] for turn in INPUTS}
        possible = {task: _openings(task.input, language) for task in tasks}
        self._openings = {task: some for task, some in possible.items() if some}

    def of(self, turn: Turn, instruction: str) -> SeedTask | None:
        """Of the turn's tasks the one that is most like the instruction; None where nothing can open as its input does:
        to open as a farther one's leads astray."""
        nearest = self._nearest.of(instruction, self._with_input.get(turn, ()))
        return nearest if nearest in self._openings else None

    def openings(self, turn: Turn, instruction: str) -> list[str]:
        """With what its input may open; empty where there is nothing."""
        opener = self.of(turn, instruction)
        return [] if opener is None else self._openings[opener]

    def fails(self, instruction: str) -> bool:
        """Whether an input for it can hardly be expected to fit. Where most seeds' inputs can't be opened, that is the
        kind which is wanted, and nothing fails."""
        opener = self.of("input", instruction)
        far = opener is None or self._nearest.likeness(instruction, opener) < _LIKE
        return far and 2 * len(self._openings) > len(self._with_input["input"])


def _openings(text: str, language: Language) -> list[str]:
    """The first words with which another text may open as this one does: two at least, a third of its own and six at
    most, the longer half of what is possible. In one line and with letters, for of a table a small model makes no end;
    and no whole sentence, behind which it often sees no reason to go on."""
    ends = language.word_ends(text)
    beginnings = (text[:end] for end in ends[1 : min(_LONGEST_OPENING, len(ends) // 3)])
    possible = [b for b in beginnings if "\n" not in b and b[-1] not in _SENTENCE_ENDS and _LETTERS.search(b)]
    return possible[len(possible) // 2 :]
