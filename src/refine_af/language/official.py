"""English as `rouge-score` and Super-NaturalInstructions read it: what published scores were computed on."""

from __future__ import annotations

import re
import string

_TOKEN = re.compile(r"[a-z0-9]+")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def tokens(text: str) -> list[str]:
    """Lower-case runs of ASCII letters and digits: the tokens of `rouge-score` without its stemmer."""
    return _TOKEN.findall(text.lower())


def plain(text: str) -> str:
    """Without case, ASCII punctuation and surplus white space: what an exact match compares."""
    return " ".join(text.lower().translate(_PUNCTUATION).split())
