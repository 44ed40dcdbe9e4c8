"""The numbered list that a model continues with new instructions, and the parser that splits its continuation."""

from __future__ import annotations

import re
from collections.abc import Sequence

OPENING = "Come up with a series of varied tasks:\n\n"
STOP = ("\n\n", "\n16.")

_ITEM = re.compile(r"(?:^|\n)[ \t]*(\d{1,3})[.)](?=\s|$)")


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
