"""What a tokenisation can't see of texts: scores of such texts say little, so that users are told."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable

from refine_af.language.language import Language

_MOST_UNSEEN = 0.2  # share of the letters; accents of French, German or Polish stay well below it


def unseen_share(texts: Iterable[str]) -> float:
    """The share of letters, digits and combining marks that English tokens leave out, in [0, 1]; 0 without any."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    seen = unseen = 0
    for character, count in counts.items():
        if character.isascii():
            seen += count * character.isalnum()
        elif unicodedata.category(character)[0] in "LMN":
            unseen += count
    return unseen / (seen + unseen) if unseen else 0.0


def unseen_note(texts: Iterable[str], of: str, language: Language, option: str) -> str | None:
    """What a user should know where more than a fifth is left out; None else. ``of`` says which texts these are,
    ``option`` how another language is named."""
    if not language.is_english or (share := unseen_share(texts)) <= _MOST_UNSEEN:
        return None
    return (
        f"{share:.0%} of the letters in {of} are not compared: English words are read as a to z and digits alone; "
        f"set {option} to the texts' own, such as zh or ar (mul for several)"
    )
