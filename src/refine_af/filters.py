"""Why a text is not kept: one small function a reason. A function returns a detail where its reason applies, else None.

The rules are Self-Instruct's unless they say otherwise; a rule's name is the reason that a rejection shows. What looks
at English words is asked of English alone.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Callable, Sequence

from refine_af.config import InstructionsConfig
from refine_af.language import ENGLISH, Language
from refine_af.language.coverage import unseen_share
from refine_af.prompts.pairs import Pair
from refine_af.prompts.pointing import points_at
from refine_af.records import SeedTask
from refine_af.topics import Topics

InstructionFilter = Callable[[str, InstructionsConfig, Language], "str | None"]
PairFilter = Callable[[Pair], "str | None"]

_UNSERVED = re.compile(
    r"\b(images?|graphs?|pictures?|files?|maps?|draw|plot|go to)\b",
    re.IGNORECASE,
)


def too_short(text: str, config: InstructionsConfig, language: Language = ENGLISH) -> str | None:
    words = language.count(text)
    return f"{words} words" if words < config.min_words else None


def too_long(text: str, config: InstructionsConfig, language: Language = ENGLISH) -> str | None:
    words = language.count(text)
    return f"{words} words" if words > config.max_words else None


def needs_more_than_text(text: str, config: InstructionsConfig, language: Language = ENGLISH) -> str | None:
    """Speaks of things that a text model can't see or do."""
    found = _UNSERVED.search(text) if language.is_english else None
    return found.group(0).lower() if found else None


def asks_for_a_program(text: str, config: InstructionsConfig, language: Language = ENGLISH) -> str | None:
    """Self-Instruct found that such instructions crowd out the rest."""
    return "Write a program" if text.lower().startswith("write a program") else None


def starts_oddly(text: str, config: InstructionsConfig, language: Language = ENGLISH) -> str | None:
    """Begins with punctuation, a symbol or white space. Self-Instruct's rule takes all letters outside ASCII for odd,
    too; they are none here, nor are the marks with which a question or a quotation opens."""
    first = text[:1]
    opens = first in _OPENINGS or (not language.is_english and unicodedata.category(first or " ") in ("Ps", "Pi", "Pf"))
    return None if first.isalnum() or (opens and first not in string.punctuation) else first


_OPENINGS = frozenset("¿¡«„「『《〈【（")


def is_of_another_script(text: str, config: InstructionsConfig, language: Language = ENGLISH) -> str | None:
    """In English, a text of which novelty would see less than half: what repeats it would be kept. Ours."""
    share = unseen_share([text]) if language.is_english else 0.0
    return f"{share:.0%} of its letters" if share > _MOST_UNSEEN else None


_MOST_UNSEEN = 0.5  # a phrase that is to be translated may well be in another script


def asks_for_nothing(text: str, config: InstructionsConfig, language: Language = ENGLISH) -> str | None:
    """A statement, such as "The largest cake in the world.": no question, and it opens as only statements do.

    Not one of Self-Instruct's rules: small models need it, since to them a list of tasks is soon a list of sentences.
    A text whose later sentence asks ("You are a pirate. Describe your ship.") passes.
    """
    if not language.is_english:
        return None
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


def repeats_itself(text: str, config: InstructionsConfig, language: Language = ENGLISH) -> str | None:
    """One word three times in a row, as in "Decide which is cheaper, cheaper, cheaper.": a small model that trails off.

    Ours, as the rule before.
    """
    return language.said_thrice(text)


ANOTHER_SCRIPT = "in another script"
INSTRUCTION_FILTERS: dict[str, InstructionFilter] = {
    "too short": too_short,
    "too long": too_long,
    "needs more than text": needs_more_than_text,
    "asks for a program": asks_for_a_program,
    "starts oddly": starts_oddly,
    ANOTHER_SCRIPT: is_of_another_script,
    "asks for nothing": asks_for_nothing,
    "repeats itself": repeats_itself,
}


def empty_output(pair: Pair) -> str | None:
    return "" if not pair.output.strip() else None


def output_is_input(pair: Pair) -> str | None:
    return "" if pair.input.strip() == pair.output.strip() else None


def ends_in_colon(pair: Pair) -> str | None:
    """The sign of a text that was about to go on."""
    if pair.input.rstrip().endswith(_COLONS):
        return "input"
    return "output" if pair.output.rstrip().endswith(_COLONS) else None


_COLONS = (":", "：")


PAIR_FILTERS: dict[str, PairFilter] = {
    "empty output": empty_output,
    "output is the input": output_is_input,
    "ends in a colon": ends_in_colon,
}


def instruction_fault(text: str, config: InstructionsConfig, language: Language = ENGLISH) -> tuple[str, str] | None:
    """(reason, detail) of the first rule against the instruction; None for a good one."""
    for reason, rule in INSTRUCTION_FILTERS.items():
        detail = rule(text, config, language)
        if detail is not None:
            return reason, detail
    return None


def pair_fault(
    pair: Pair,
    instruction: str,
    asked: str,
    shown: Sequence[SeedTask],
    topics: Topics,
    language: Language = ENGLISH,
) -> tuple[str, str] | None:
    """(reason, detail) of the first rule against the pair, which was written behind the ``shown`` tasks; None for a
    good one. ``asked``: the instruction, and all words beside it that the pair was asked to have."""
    for reason, rule in PAIR_FILTERS.items():
        detail = rule(pair)
        if detail is not None:
            return reason, detail
    if language.is_english and not pair.input and (given := points_at(instruction)) is not None:
        return HOLLOW, given
    if (copied := copied_demonstration(pair, asked, shown, language)) is not None:
        return COPIED, copied[:80]
    if not language.is_english:
        return None
    taken = topics.taken_over(f"{pair.input}\n{pair.output}", asked, shown)
    return (TOPIC, ", ".join(taken)) if len(taken) >= _TOPIC_WORDS else None


_PASSAGE = 4  # words in a row; or a whole text of three, since shorter ones are labels and names
_TOPIC_WORDS = 2  # by chance, an output has one of a demonstration's rare words much more often than two
HOLLOW = "points at an input that isn't there"
COPIED = "copies a demonstration"
TOPIC = "takes a demonstration's topic"


def copied_demonstration(
    pair: Pair, instruction: str, shown: Sequence[SeedTask], language: Language = ENGLISH
) -> str | None:
    """The text of a demonstration that makes half of the pair's input or output, passage by passage; None where there
    is none. What the instruction has in common with it is no copy.

    Ours: a small model that doesn't know what to answer says again what its prompt has shown it.
    """
    asked, texts = language.words(instruction), [language.words(pair.input), language.words(pair.output)]
    for source in (text for task in shown for text in (task.instruction, task.input, task.output)):
        said = language.words(source)
        amount = language.amount(said)
        if amount < _PASSAGE - 1:
            continue
        length = min(round(_PASSAGE * len(said) / amount), len(said))
        known = _passages(said, length) - _passages(asked, length)
        if any(_is_half_of(known, length, words) for words in texts):
            return source
    return None


def _is_half_of(passages: set[tuple[str, ...]], length: int, words: Sequence[str]) -> bool:
    """Whether half of the words stand in passages of that length."""
    starts = [i for i in range(len(words)) if tuple(words[i : i + length]) in passages]
    covered = {place for start in starts for place in range(start, start + length)}
    return bool(covered) and 2 * len(covered) >= len(words)


def _passages(words: Sequence[str], length: int) -> set[tuple[str, ...]]:
    return {tuple(words[i : i + length]) for i in range(len(words) - length + 1)}
