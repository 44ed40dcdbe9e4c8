"""Tasks that can be made and solved by rule out of people's texts: completing, correcting, asking, sorting. They widen
what the evaluator takes for a good pair beyond the seeds' kinds, and each is right by construction."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

from refine_af.feedback.base import Example
from refine_af.feedback.passages import sentences

Maker = Callable[[random.Random, Example], "Example | None"]

_WORD = re.compile(r"[A-Za-z][A-Za-z'-]*")


def completion(chance: random.Random, pair: Example) -> Example | None:
    """The rest of a text."""
    words = pair.output.split()
    if len(words) < 14:
        return None
    cut = chance.randrange(len(words) // 3, 2 * len(words) // 3)
    task = chance.choice(
        ["Complete the text.", "Write how this goes on.", "You get the beginning of a text. Finish it."]
    )
    return Example(task, " ".join(words[:cut]), " ".join(words[cut:]))


def question(chance: random.Random, pair: Example) -> Example | None:
    """The request that an answer answers."""
    if pair.input or not 4 <= len(pair.output.split()) <= 60:
        return None
    task = chance.choice(
        ["Write a question or a request that has this answer.", "What may have been asked, if this is the answer?"]
    )
    return Example(task, pair.output, pair.instruction)


def correction(chance: random.Random, pair: Example) -> Example | None:
    """A sentence with its letters put right."""
    sentence = _sentence(chance, pair)
    if sentence is None:
        return None
    broken = _WORD.sub(lambda m: _slipped(chance, m.group()) if chance.random() < 0.3 else m.group(), sentence)
    if broken == sentence:
        return None
    return Example(
        chance.choice(["Correct the spelling.", "Rewrite the sentence without its typing errors."]), broken, sentence
    )


def _slipped(chance: random.Random, word: str) -> str:
    """The word with two neighbouring letters exchanged, as fast fingers do it."""
    if len(word) < 4:
        return word
    place = chance.randrange(1, len(word) - 2)
    return word[:place] + word[place + 1] + word[place] + word[place + 2 :]


def reordering(chance: random.Random, pair: Example) -> Example | None:
    """A sentence from its words in disorder."""
    sentence = _sentence(chance, pair, most=14)
    if sentence is None:
        return None
    words = sentence.split()
    return Example(
        "Put the words in order so that they make a sentence.", " / ".join(chance.sample(words, len(words))), sentence
    )


def word_list(chance: random.Random, pair: Example) -> Example | None:
    """Words of a text by a plain rule."""
    sentence = _sentence(chance, pair)
    if sentence is None:
        return None
    words = _WORD.findall(sentence)
    length = chance.randint(3, 6)
    rules: list[tuple[str, list[str]]] = [
        ("List the words of the sentence in alphabetical order.", sorted(words, key=str.lower)),
        (
            f"List all words of the sentence that have more than {length} letters.",
            [w for w in words if len(w) > length],
        ),
        ("List every second word of the sentence.", words[1::2]),
        ("Write the words of the sentence from the last to the first.", words[::-1]),
    ]
    task, chosen = chance.choice(rules)
    return Example(task, sentence, ", ".join(chosen)) if len(chosen) > 1 else None


def _sentence(chance: random.Random, pair: Example, most: int = 30) -> str | None:
    found = [s.strip() for text in (pair.output, pair.input) for s in sentences(text)]
    fitting = [s for s in found if 5 <= len(s.split()) <= most]
    return chance.choice(fitting) if fitting else None


MAKERS: tuple[Maker, ...] = (completion, question, correction, reordering, word_list)


_ROUNDS = 3  # through the pairs


def exercises(chance: random.Random, pairs: Sequence[Example], count: int) -> list[Example]:
    """As many different exercises as asked for, each kind in turn, or fewer where the pairs give no more."""
    made: dict[Example, None] = {}
    for _ in range(_ROUNDS):
        for turn, pair in enumerate(chance.sample(pairs, len(pairs))):
            exercise = MAKERS[turn % len(MAKERS)](chance, pair)
            if exercise is not None and len(made) < count:
                made[exercise] = None
    return list(made)
