"""A language by its code, and what depends on it wherever texts are cut into words, counted or compared."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial

from refine_af.language import official, unicode_words

_CODE = re.compile(r"[a-z]{2,3}(?:[-_][a-z0-9]{1,8})*", re.IGNORECASE)
_BY_SPACES, _BY_LETTERS = re.compile(r"\S+"), re.compile(r"\w+")
_THRICE = re.compile(r"\b(\w+)\W+\1\W+\1\b", re.IGNORECASE)
_DOTTED = ("tr", "tur", "az", "aze")


class Language:
    """How texts of a language are read. ``code`` is that of ISO 639 with or without subtags, as "en", "zh" or "pt-BR";
    "mul" stands for several. Raises ValueError for what is no code.

    English is read as published scores read it. All other languages are read alike, by Unicode, but for the two letters
    i of Turkish and Azeri.
    """

    def __init__(self, code: str = "en") -> None:
        if not _CODE.fullmatch(code):
            raise ValueError("a language's code was expected, such as en, zh or ar (mul for several)")
        main = re.split("[-_]", code.lower())[0]
        dots = main in _DOTTED
        self.code = code
        self.is_english = main in ("en", "eng")
        self.tokens: Callable[[str], list[str]] = official.tokens
        """The words that ROUGE-L and novelty compare."""
        self.plain: Callable[[str], str] = official.plain
        """What an exact match compares."""
        self.tokenization = "rouge-score"
        """What scores say of how their texts were read."""
        if not self.is_english:
            self.tokens = partial(unicode_words.tokens, dots=dots)
            self.plain = partial(unicode_words.plain, dots=dots)
            self.tokenization = "unicode, dotted i" if dots else "unicode"

    def words(self, text: str) -> list[str]:
        """All words in lower case: in English those with letters outside ASCII too, which ROUGE leaves out."""
        return _BY_LETTERS.findall(text.lower()) if self.is_english else self.tokens(text)

    def word_ends(self, text: str) -> list[int]:
        """Where the first word of a text ends, the second one, and so on."""
        if self.is_english:
            return [word.end() for word in _BY_SPACES.finditer(text)]
        return unicode_words.word_ends(text)

    def count(self, text: str) -> int:
        """The words of a text, as people count them: where none are told apart by spaces, by their usual length."""
        return len(text.split()) if self.is_english else len(unicode_words.word_ends(text))

    def amount(self, tokens: Sequence[str]) -> float:
        """How many words these tokens make: as many, but where a token is a letter of a script without spaces."""
        return float(len(tokens)) if self.is_english else sum(map(unicode_words.words_in, tokens))

    def marked(self, identity: str) -> str:
        """The identity of what depends on how texts are read; English, which was there first, leaves no mark."""
        return identity if self.is_english else f"{identity} {self.tokenization}"

    def said_thrice(self, text: str) -> str | None:
        """The word that stands three times in a row, in lower case; None where none does."""
        if not self.is_english:
            return unicode_words.said_thrice(text)
        found = _THRICE.search(text)
        return found.group(1).lower() if found else None


ENGLISH = Language()
