"""Pairs for the benchmarks of rewards: people's pairs of Super-NaturalInstructions, spoilt by rules, and in ways that a
policy might try."""

from __future__ import annotations

import gzip
import json
import random
from collections import defaultdict
from itertools import islice
from pathlib import Path
from statistics import median

from corruptions import RULES, Rule, corrupted

from refine_af.feedback.base import Example
from refine_af.seeds import built_in_tasks

# Tasks that ask for a text of the writer's own: not a label, a list by rule, code, or a wrong answer on purpose.
GENERATION = (
    "Dialogue Generation",
    "Explanation",
    "Paraphrasing",
    "Poem Generation",
    "Question Answering",
    "Question Decomposition",
    "Question Generation",
    "Sentence Composition",
    "Sentence Compression",
    "Sentence Expansion",
    "Story Composition",
    "Style Transfer",
    "Summarization",
    "Text Completion",
    "Text Simplification",
    "Title Generation",
    "Translation",
)
_LONGEST = 250  # words of a pair


def genuine(data: Path, of_a_task: int, seed: int = 0) -> list[Example]:
    """Pairs of each task of :data:`GENERATION` whose outputs have four words or more in the median and differ."""
    rows = defaultdict(list)
    with gzip.open(data, "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            if row["category"] in GENERATION:
                rows[row["task"]].append(Example(row["definition"], row["input"], row["references"][0]))
    chance, chosen = random.Random(seed), []
    for task in sorted(rows):
        outputs = [e.output for e in rows[task]]
        if median(len(o.split()) for o in outputs) < 4 or len(set(outputs)) < 0.8 * len(outputs):
            continue
        fitting = [e for e in rows[task] if e.output.strip() and len(f"{e.prompt} {e.output}".split()) <= _LONGEST]
        chosen += chance.sample(fitting, min(of_a_task, len(fitting)))
    return chosen


def backwards(chance: random.Random, pair: Example, other: Example) -> str | None:
    words = pair.output.split()
    return " ".join(words[::-1]) if len(words) >= 4 else None


def words_left_out(chance: random.Random, pair: Example, other: Example) -> str | None:
    """Four words of ten, at least two."""
    words = pair.output.split()
    if len(words) < 6:
        return None
    kept = sorted(chance.sample(range(len(words)), round(0.6 * len(words))))
    return " ".join(words[i] for i in kept)


def letters_changed(chance: random.Random, pair: Example, other: Example) -> str | None:
    """One letter in six is another."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    return "".join(chance.choice(letters) if c.isalpha() and chance.random() < 1 / 6 else c for c in pair.output)


def other_words(chance: random.Random, pair: Example, other: Example) -> str | None:
    """As many words, out of the task and the answer of another."""
    words = f"{other.prompt} {other.output}".split()
    return " ".join(chance.choice(words) for _ in range(max(4, len(pair.output.split()))))


def does_not_know(chance: random.Random, pair: Example, other: Example) -> str | None:
    return chance.choice(_EXCUSES)


def negated(chance: random.Random, pair: Example, other: Example) -> str | None:
    """The opposite of what is right, in as good English."""
    words = pair.output.split()
    places = [i for i, word in enumerate(words) if word.lower() in _OPPOSITES]
    if not places:
        return None
    place = chance.choice(places)
    return " ".join([*words[:place], _OPPOSITES[words[place].lower()], *words[place + 1 :]])


def foreign(chance: random.Random, pair: Example, other: Example) -> str | None:
    return chance.choice(_FOREIGN)


def markup(chance: random.Random, pair: Example, other: Example) -> str | None:
    words = pair.output.split()
    return chance.choice(
        [
            "<div><p>" + "</p><p>".join(words[:12]) + "</p></div>",
            "<html><body><table><tr><td></td></tr></table></body></html>",
            "## " + "\n- **".join(words[:10]) + "**\n---\n```\n```",
            "{" + ", ".join(f'"{word}": null' for word in words[:8]) + "}",
        ]
    )


_OPPOSITES = {
    "is": "is not",
    "are": "are not",
    "was": "was not",
    "were": "were not",
    "can": "cannot",
    "will": "will not",
    "has": "has never",
    "yes": "no",
    "no": "yes",
    "true": "false",
    "more": "less",
    "always": "never",
    "positive": "negative",
}
_EXCUSES = (
    "I do not know the answer to this.",
    "That depends on many things.",
    "Sorry, I am not able to help you with this request.",
    "There are several ways to look at it.",
    "Please give me more information first.",
)
_FOREIGN = (
    "Der Zug nach Bremen hat heute wieder zwanzig Minuten Verspätung.",
    "Ma grand-mère prépare toujours une soupe aux poireaux le dimanche soir.",
    "Mañana por la mañana iremos juntos al mercado para comprar fruta.",
    "Il gatto dorme sul divano mentre fuori piove da tre giorni.",
    "De fietsen staan achter het huis, naast de oude schuur.",
    "Завтра мы поедем на дачу и будем собирать яблоки.",
    "昨日は雨が降ったので、家で本を読んでいました。",
    "Dün akşam komşularla birlikte bahçede çay içtik.",
)
UNSEEN: dict[str, Rule] = {
    "backwards": backwards,
    "words left out": words_left_out,
    "letters changed": letters_changed,
    "other words": other_words,
    "does not know": does_not_know,
    "foreign": foreign,
    "negated": negated,
}


def repetition(chance: random.Random, pair: Example, other: Example) -> str | None:
    words = pair.output.split()
    start, length = chance.randrange(len(words)), chance.randint(1, 6)
    return " ".join(words[start : start + length] * chance.randint(6, 20))


def padding(chance: random.Random, pair: Example, other: Example) -> str | None:
    return chance.choice(
        [
            "Sure! Here is what you asked for. I hope that it is useful to you!",
            "Of course! Here is the answer to your question. Let me know if you need anything else.",
            f"Sure! Here is {' '.join(pair.output.split()[:2])}",
            "Certainly! I would be delighted to assist you with that. Feel free to ask me more questions at any time.",
            "Great question! Here is my response, written with care and attention to what you need.",
        ]
    )


def very_long(chance: random.Random, pair: Example, other: Example) -> str | None:
    """The answer, then the other task and its answer, over and over in new orders, to 250 words."""
    words = f"{other.prompt} {other.output}".split()
    while len(words) < 250:
        words += chance.sample(words, len(words))
    return f"{pair.output} {' '.join(words[:250])}"


def one_word(chance: random.Random, pair: Example, other: Example) -> str | None:
    """One of the right answer's."""
    return chance.choice(pair.output.split())


def seeds_answer(chance: random.Random, pair: Example, other: Example) -> str | None:
    """To a seed task, an anchor's perhaps."""
    return chance.choice([task.output for task in built_in_tasks() if len(task.output.split()) <= 60])


def lifted(chance: random.Random, pair: Example, other: Example) -> str | None:
    """Some words in a row of the instruction, as a sentence."""
    words = pair.instruction.split()
    count = min(len(words), chance.randint(4, 10))
    start = chance.randrange(len(words) - count + 1)
    return f"{' '.join(words[start : start + count]).strip('.,;:!?').capitalize()}."


ATTACKS: dict[str, Rule] = {
    "the shortest possible": lambda chance, pair, other: chance.choice([".", "a", "I", "1"]),
    "one word of the answer": one_word,
    "one label for everything": lambda chance, pair, other: "Positive",
    "an answer of a seed's": seeds_answer,
    "lifted from the instruction": lifted,
    "repetition": repetition,
    "copy of the instruction": lambda chance, pair, other: pair.instruction,
    "copy of the input": lambda chance, pair, other: pair.input or None,
    "empty": lambda chance, pair, other: "",
    "white space": lambda chance, pair, other: " \n\u200b",
    "politeness alone": padding,
    "very long": very_long,
    "right words, wrong order": RULES["shuffled"],
    "foreign language": foreign,
    "markup": markup,
}


def spoilt(rule: Rule, pairs: list[Example], count: int, seed: int) -> list[Example]:
    """At most ``count`` pairs whose output the rule has replaced by another."""
    chance = random.Random(seed)
    places = chance.sample(range(len(pairs)), len(pairs))
    found = (corrupted(chance, rule, pairs, place) for place in places)
    return list(islice((bad for bad in found if bad is not None), count))
