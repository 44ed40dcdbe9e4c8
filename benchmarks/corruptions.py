"""What bad pairs look like: people's pairs, spoilt by rules.

Each rule takes a pair and gives an output that is worse than the pair's own, or None where it can't: a text of two
words can't be cut. The way is UniEval's (arXiv 2210.07197, section 3.2), the rules are our own.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from refine_af.feedback.base import Example

Rule = Callable[[random.Random, Example, Example], "str | None"]  # chance, the pair, a pair of another task

_WORD = re.compile(r"\S+")
_SENTENCE_END = re.compile(r"(?<=[.!?؟۔।॥።။។])\s+|(?<=[。！？])(?![。！？」』”）])|(?<=[。！？][」』”）])|\n+")


def sentences(text: str) -> list[str]:
    """What ends in a full stop, a question or an exclamation mark of any script, or with its line; blank ones are left
    out."""
    return [s for s in _SENTENCE_END.split(text) if s.strip()]


def other_task(chance: random.Random, pair: Example, other: Example) -> str | None:
    """A good answer, to something else."""
    return other.output


def cut(chance: random.Random, pair: Example, other: Example) -> str | None:
    """It stops in the middle."""
    words = list(_WORD.finditer(pair.output))
    if len(words) < 4:
        return None
    last = chance.randrange(max(1, len(words) // 4), max(2, 3 * len(words) // 4))
    return pair.output[: words[last - 1].end()].rstrip(" .,;:!?")


def stub(chance: random.Random, pair: Example, other: Example) -> str | None:
    """A word or two where sentences were asked for."""
    words = pair.output.split()
    if len(words) < 6:
        return None
    length = chance.randint(1, 2)
    start = chance.randrange(len(words) - length + 1)
    return " ".join(words[start : start + length]).strip(".,;:!?()\"'") or None


def shuffled(chance: random.Random, pair: Example, other: Example) -> str | None:
    """The right words in a wrong order."""
    words = pair.output.split()
    if len(set(words)) < 4:
        return None
    return " ".join(chance.sample(words, len(words)))


def repeated(chance: random.Random, pair: Example, other: Example) -> str | None:
    """A phrase, a sentence or all of it again and again."""
    words = pair.output.split()
    if not words:
        return None
    way = chance.random()
    if way < 0.4:
        length = chance.randint(1, min(8, len(words)))
        start = chance.randrange(len(words) - length + 1)
        return " ".join(words[:start] + words[start : start + length] * chance.randint(3, 8))
    if way < 0.8:
        said = sentences(pair.output)
        place = chance.randrange(len(said))
        return " ".join(said[:place] + [said[place]] * chance.randint(3, 5))
    return " ".join([pair.output] * chance.randint(2, 4))


def copied_input(chance: random.Random, pair: Example, other: Example) -> str | None:
    """The input again, whole or in part, in place of an answer."""
    return _part(chance, pair.input, least=4)


def copied_instruction(chance: random.Random, pair: Example, other: Example) -> str | None:
    """The instruction again, whole or in part."""
    return _part(chance, pair.instruction, least=3)


def wandering(chance: random.Random, pair: Example, other: Example) -> str | None:
    """It answers, and then goes on about something else."""
    return pair.output + chance.choice(["\n\n", "\n", " "]) + other.output


def new_task(chance: random.Random, pair: Example, other: Example) -> str | None:
    """It goes on with a task of its own making, before or behind an answer, as base models do."""
    opening = chance.choice([f"{pair.output}\n\n", "", ""])
    heading = chance.choice(["", "Input: ", "Instruction: ", "Question: ", "### Task\n"])
    return f"{opening}{heading}{other.prompt}"


def polite(chance: random.Random, pair: Example, other: Example) -> str | None:
    """Politeness without an answer, or around a stump of one."""
    opening, ending = chance.choice(_OPENINGS), chance.choice(_ENDINGS)
    answer = "" if chance.random() < 0.6 else f" {' '.join(pair.output.split()[: chance.randint(1, 4)])}"
    return f"{opening}{answer} {ending}" if chance.random() < 0.7 else f"{opening}{answer}"


_OPENINGS = (
    "Sure! Here is the answer:",
    "Certainly, I can do that for you.",
    "Of course! I'd be glad to help.",
    "Absolutely! Here you go:",
    "Thanks for your question.",
    "As an AI language model, I am here to help.",
)
_ENDINGS = (
    "I hope this helps!",
    "Please tell me if you need anything else.",
    "Is there anything else that I can do for you?",
    "Do not hesitate to ask if you have more questions.",
    "Have a nice day!",
)


def garbled(chance: random.Random, pair: Example, other: Example) -> str | None:
    """Words that are missing, doubled, or from somewhere else."""
    words, foreign = pair.output.split(), f"{other.prompt} {other.output}".split()
    if len(words) < 5:
        return None
    ways = chance.choice([("drop",), ("drop", "twice"), ("drop", "foreign"), ("foreign",)])
    made: list[str] = []
    for word in words:
        way = chance.choice(ways) if chance.random() < 0.4 else "keep"
        made += {"keep": [word], "drop": [], "twice": [word, word], "foreign": [chance.choice(foreign)]}[way]
    return " ".join(made) or None


def marked_up(chance: random.Random, pair: Example, other: Example) -> str | None:
    """Signs around words that nobody asked to be marked."""
    words = pair.output.split()
    if len(words) < 3:
        return None
    some = words[: chance.randint(3, 16)]
    return chance.choice(
        [
            "".join(f"<{tag}>{word}</{tag}>" for word in some for tag in [chance.choice(_TAGS)]),
            "<table>" + "".join(f"<tr><td>{word}</td></tr>" for word in some) + "</table>",
            "\n".join(f"{chance.choice(['# ', '* ', '> ', '- '])}**{word}**" for word in some),
            "| " + " | ".join(some) + " |\n|" + "---|" * len(some),
            "[" + ", ".join(f'{{"{word}": 1}}' for word in some) + "]",
            "```\n" + "\n".join(some) + "\n```\n---\n```",
        ]
    )


_TAGS = ("b", "i", "li", "span", "h2", "a", "p")


def _part(chance: random.Random, text: str, least: int) -> str | None:
    words = text.split()
    if len(words) < least:
        return None
    if chance.random() < 0.5:
        return text
    length = max(least, int(len(words) * chance.uniform(0.3, 0.9)))
    start = chance.randrange(len(words) - length + 1)
    return " ".join(words[start : start + length])


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "other task": other_task,
        "cut": cut,
        "stub": stub,
        "shuffled": shuffled,
        "repeated": repeated,
        "copied input": copied_input,
        "copied instruction": copied_instruction,
        "wandering": wandering,
        "new task": new_task,
        "polite": polite,
        "garbled": garbled,
        "marked up": marked_up,
    }
)


def corrupted(chance: random.Random, rule: Rule, pairs: Sequence[Example], place: int) -> Example | None:
    """The pair at ``place``, one of two or more, spoilt by a rule; None where the rule can't spoil it."""
    pair = pairs[place]
    other = pairs[(place + chance.randrange(1, len(pairs))) % len(pairs)]
    output = rule(chance, pair, other)
    if output is None or output.split() == pair.output.split():
        return None
    return Example(pair.instruction, pair.input, output)
