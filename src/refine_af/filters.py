"""Why a text is not kept: one small function a reason. A function returns a detail where its reason applies, else None.

The rules are Self-Instruct's unless they say otherwise; a rule's name is the reason that a rejection shows.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Sequence

from refine_af.config import InstructionsConfig
from refine_af.prompts.pairs import Pair
from refine_af.prompts.pointing import points_at
from refine_af.records import SeedTask
from refine_af.topics import Topics

InstructionFilter = Callable[[str, InstructionsConfig], "str | None"]
PairFilter = Callable[[Pair], "str | None"]

_UNSERVED = re.compile(
    r"\b(images?|graphs?|pictures?|files?|maps?|draw|plot|go to)\b",
    re.IGNORECASE,
)


def too_short(text: str, config: InstructionsConfig) -> str | None:
    words = len(text.split())
    return f"{words} words" if words < config.min_words else None


def too_long(text: str, config: InstructionsConfig) -> str | None:
    words = len(text.split())
    return f"{words} words" if words > config.max_words else None


def needs_more_than_text(text: str, config: InstructionsConfig) -> str | None:
    """Speaks of things that a text model can't see or do."""
    found = _UNSERVED.search(text)
    return found.group(0).lower() if found else None


def asks_for_a_program(text: str, config: InstructionsConfig) -> str | None:
    """Self-Instruct found that such instructions crowd out the rest."""
    return "Write a program" if text.lower().startswith("write a program") else None


def starts_oddly(text: str, config: InstructionsConfig) -> str | None:
    """Begins with punctuation or a character outside ASCII."""
    first = text[:1]
    return first if first in string.punctuation or not first.isascii() else None


def asks_for_nothing(text: str, config: InstructionsConfig) -> str | None:
    """A statement, such as "The largest cake in the world.": no question, and it opens as only statements do.

    Not one of Self-Instruct's rules: small models need it, since to them a list of tasks is soon a list of sentences.
    A text whose later sentence asks ("You are a pirate. Describe your ship.") passes.
    """
    if "?" not in text and _HOW_TO.match(text):
        return "how to"
    if "?" in text or _WISH.search(text):
        return None
    openings = [s.split()[0].strip("'\"").lower() for s in re.split(r"[.!:;]\s+", text) if s.split()]
    return openings[0] if openings and all(_STATEMENT.fullmatch(o) for o in openings) else None


_HOW_TO = re.compile(r"how (to|you|i|we)\b", re.IGNORECASE)
_STATEMENT = re.compile(
    r"(the|a|an|this|that|these|those|there|here|it|its|i|my|he|his|she|her|we|our|they|their|you|your|one|some|"
    r"(i|you|we|they|he|she|it|that|there|here|this)'(s|m|re|ve|ll|d))"
)
_WISH = re.compile(r"\b(need|want|given|would like|please|task is|job is)\b", re.IGNORECASE)


def repeats_itself(text: str, config: InstructionsConfig) -> str | None:
    """One word three times in a row, as in "Decide which is cheaper, cheaper, cheaper.": a small model that trails off.

    Ours, as the rule before.
    """
    found = _THRICE.search(text)
    return found.group(1).lower() if found else None


_THRICE = re.compile(r"\b(\w+)\W+\1\W+\1\b", re.IGNORECASE)


INSTRUCTION_FILTERS: dict[str, InstructionFilter] = {
    "too short": too_short,
    "too long": too_long,
    "needs more than text": needs_more_than_text,
    "asks for a program": asks_for_a_program,
    "starts oddly": starts_oddly,
    "asks for nothing": asks_for_nothing,
    "repeats itself": repeats_itself,
}


def empty_output(pair: Pair) -> str | None:
    return "" if not pair.output.strip() else None


def output_is_input(pair: Pair) -> str | None:
    return "" if pair.input.strip() == pair.output.strip() else None


def ends_in_colon(pair: Pair) -> str | None:
    """The sign of a text that was about to go on."""
    if pair.input.rstrip().endswith(":"):
        return "input"
    return "output" if pair.output.rstrip().endswith(":") else None


PAIR_FILTERS: dict[str, PairFilter] = {
    "empty output": empty_output,
    "output is the input": output_is_input,
    "ends in a colon": ends_in_colon,
}


def instruction_fault(text: str, config: InstructionsConfig) -> tuple[str, str] | None:
    """(reason, detail) of the first rule against the instruction; None for a good one."""
    for reason, rule in INSTRUCTION_FILTERS.items():
        detail = rule(text, config)
        if detail is not None:
            return reason, detail
    return None


def pair_fault(
    pair: Pair, instruction: str, asked: str, shown: Sequence[SeedTask], topics: Topics
) -> tuple[str, str] | None:
    """(reason, detail) of the first rule against the pair, which was written behind the ``shown`` tasks; None for a
    good one. ``asked``: the instruction, and all words beside it that the pair was asked to have."""
    for reason, rule in PAIR_FILTERS.items():
        detail = rule(pair)
        if detail is not None:
            return reason, detail
    if not pair.input and (given := points_at(instruction)) is not None:
        return HOLLOW, given
    if (copied := copied_demonstration(pair, asked, shown)) is not None:
        return COPIED, copied[:80]
    taken = topics.taken_over(f"{pair.input}\n{pair.output}", asked, shown)
    return (TOPIC, ", ".join(taken)) if len(taken) >= _TOPIC_WORDS else None


_WORD = re.compile(r"\w+")
_PASSAGE = 4  # words in a row; or a whole text of three, since shorter ones are labels and names
_TOPIC_WORDS = 2  # by chance, an output has one of a demonstration's rare words much more often than two
HOLLOW = "points at an input that isn't there"
COPIED = "copies a demonstration"
TOPIC = "takes a demonstration's topic"


def copied_demonstration(pair: Pair, instruction: str, shown: Sequence[SeedTask]) -> str | None:
    """The text of a demonstration that makes half of the pair's input or output, passage by passage; None where there
    is none. What the instruction has in common with it is no copy.

    Ours: a small model that doesn't know what to answer says again what its prompt has shown it.
    """
    asked, texts = _words(instruction), [_words(pair.input), _words(pair.output)]
    for source in (text for task in shown for text in (task.instruction, task.input, task.output)):
        said = _words(source)
        length = min(_PASSAGE, len(said))
        if length < _PASSAGE - 1:
            continue
        known = _passages(said, length) - _passages(asked, length)
        if any(_is_half_of(known, length, words) for words in texts):
            return source
    return None


def _is_half_of(passages: set[tuple[str, ...]], length: int, words: Sequence[str]) -> bool:
    """Whether half of the words stand in passages of that length."""
    starts = [i for i in range(len(words)) if tuple(words[i : i + length]) in passages]
    covered = {place for start in starts for place in range(start, start + length)}
    return bool(covered) and 2 * len(covered) >= len(words)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _passages(words: Sequence[str], length: int) -> set[tuple[str, ...]]:
    return {tuple(words[i : i + length]) for i in range(len(words) - length + 1)}
