"""The numbered list that a model continues with new instructions, and the parsers of its continuation."""

from __future__ import annotations

import re
from collections.abc import Sequence

from refine_af.language import ENGLISH, Language
from refine_af.prompts.dialect import Dialect

STOP = ("\n\n", "\n16.")
ITEM_STOP = ("\n",)

# Of a list of all kinds, of tasks that are given an input, and of tasks that are not.
_REQUESTS: dict[bool | None, str] = {
    None: "Come up with a series of varied tasks:",
    True: "Come up with a series of varied tasks. Each is about a text or data that is given with it:",
    False: "Come up with a series of varied tasks that can be done with nothing else given:",
}
_ITEM = re.compile(r"(?:^|\n)[ \t]*(\d{1,3})[.)](?=\s|$)")


def list_request(dialect: Dialect, with_inputs: bool | None = None) -> str:
    """What stands before a list; where the model has a chat template, the list is the beginning of its answer."""
    request = _REQUESTS[with_inputs]
    return dialect.frame().prompt(request) if dialect.is_chat else f"{dialect.beginning}{request}\n\n"


def list_prompt(demonstrations: Sequence[str]) -> str:
    """The demonstrations as items 1 to n, and the number that the model continues from."""
    items = "".join(f"{i}. {' '.join(d.split())}\n" for i, d in enumerate(demonstrations, start=1))
    return f"{items}{len(demonstrations) + 1}."


def parse_list(completion: str, first: int, *, ended: bool) -> tuple[list[str], str | None]:
    """The items of a continuation that begins with item ``first``, and what was cut off by length (or None).

    An item ends where the next line begins with a number. A completion that was cut by its length loses its last
    item, which may be half a sentence. (Self-Instruct drops the whole completion then.)
    """
    parts = _ITEM.split(f"{first}. {completion}")
    # parts: text before the first number (empty), then number, text, number, text, ...
    items = [" ".join(text.split()) for text in parts[2::2]]
    cut = None if ended or not items else items.pop()
    return items, cut


def opening_of(instruction: str, words: int, language: Language = ENGLISH) -> str:
    """The first words of an instruction, ``words`` at most and one at least; fewer where a quotation or a bracket would
    be left open."""
    line = " ".join(instruction.split())
    ends = language.word_ends(line)
    for count in range(min(words, len(ends) - 1), 1, -1):
        text = line[: ends[count - 1]]
        if text.count('"') % 2 == 0 and text.count("“") == text.count("”") and text.count("(") == text.count(")"):
            return text
    return line[: ends[0]]
