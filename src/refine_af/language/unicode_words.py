"""Words of any script, by Unicode's own properties of characters.

Letters are compared by compatibility and without case, as NFKC_Casefold does (The Unicode Standard, section 3.13). A
word is a run of letters and digits with their combining marks. Scripts without spaces between words (those that UAX #14
calls ideographic, and its class SA) are read letter by letter, as multilingual ROUGE reads Chinese (Hasan et al. 2021,
arXiv 2106.13822). A pictograph, such as an emoji, is a word too.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain

_ROUNDING = 1e-6  # of sums of parts of words
_HAN_ALONE = 0x20000  # here begin the planes that hold nothing else
# First and last letter of scripts that are written without spaces, and how many of their letters make a word in the
# mean. Roughly: it decides how long a text counts, never how alike two are.
_SPACELESS: tuple[tuple[int, int, float], ...] = (
    (0x3005, 0x3007, 1.5),  # Han, its signs first
    (0x3021, 0x3029, 1.5),
    (0x3038, 0x303B, 1.5),
    (0x3400, 0x4DBF, 1.5),
    (0x4E00, 0x9FFF, 1.5),
    (0xA000, 0xA48C, 1.5),  # Yi
    (0xF900, 0xFAFF, 1.5),
    (_HAN_ALONE, 0x3FFFD, 1.5),
    (0x3041, 0x30FF, 2.0),  # kana
    (0x3105, 0x312F, 2.0),  # Bopomofo
    (0x31A0, 0x31BF, 2.0),
    (0x31F0, 0x31FF, 2.0),
    (0x1AFF0, 0x1B16F, 2.0),
    (0x0E01, 0x0EDF, 4.0),  # Thai and Lao
    (0x1000, 0x109F, 4.0),  # Myanmar
    (0x1780, 0x17DC, 4.0),  # Khmer
    (0x1950, 0x19DF, 4.0),  # Tai Le, New Tai Lue
    (0x1A20, 0x1AAD, 4.0),  # Tai Tham
    (0xA9E0, 0xA9FE, 4.0),  # Myanmar
    (0xAA60, 0xAADD, 4.0),  # Myanmar, Tai Viet
)
_LETTERS = ("Lo", "Lm", "Nl")
_PICTOGRAPHS = "\u2600-\u27bf\U0001f000-\U0001f3fa\U0001f400-\U0001faff"  # without the tones of skin
_FILLERS = "\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0001-\U000e01ef"
_TO_DOTS = str.maketrans("Iİ", "ıi")  # of Turkish and Azeri, whose two letters i each have a capital


@dataclass(frozen=True, slots=True)
class _Patterns:
    token: re.Pattern[str]
    piece: re.Pattern[str]  # of a text as it stands: what is between spaces, or a letter of a script without them
    again: re.Pattern[str]  # a word three times in a row
    ignored: re.Pattern[str]  # what Unicode says is not to be seen: joiners, variation selectors, soft hyphens
    sign: re.Pattern[str]  # punctuation
    space: re.Pattern[str]  # a space beside a letter of a script without spaces


@cache
def _patterns() -> _Patterns:
    """Made of the character database when first asked, which takes a tenth of a second."""
    of_kind: dict[str, list[int]] = {}
    for code in range(_HAN_ALONE):
        of_kind.setdefault(unicodedata.category(chr(code)), []).append(code)
    letters = {code for kind in _LETTERS for code in of_kind[kind]}
    letters.update(range(_HAN_ALONE, _HAN_ALONE + 0x20000))
    alone = _class(
        sorted(letters.intersection(chain.from_iterable(range(first, last + 1) for first, last, _ in _SPACELESS)))
    )
    mark = _class(of_kind["Mn"] + of_kind["Mc"] + of_kind["Me"])
    word = rf"[^\W_{alone}]+(?:[{mark}]+[^\W_{alone}]*)*"
    signs = [code for kind, codes in of_kind.items() if kind.startswith("P") for code in codes]
    return _Patterns(
        token=re.compile(rf"[{alone}][{mark}]*|{word}|[{_PICTOGRAPHS}]"),
        piece=re.compile(rf"[{alone}][{mark}]*|[^\s{alone}]+"),
        again=re.compile(rf"(?<![\w{mark}])([\w{mark}]+)(?:[^\w{mark}]+\1){{2}}(?![\w{mark}])"),
        ignored=re.compile(f"[{_class(of_kind['Cf'])}{_FILLERS}]"),
        sign=re.compile(f"[{_class(signs)}{re.escape(string.punctuation)}]"),
        space=re.compile(f"(?<=[{alone}]) | (?=[{alone}])"),
    )


def _class(codes: Iterable[int]) -> str:
    """The characters as the inside of a regular expression's brackets, in ranges."""
    ranges: list[list[int]] = []
    for code in codes:
        if ranges and code == ranges[-1][1] + 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "".join(f"{re.escape(chr(first))}-{re.escape(chr(last))}" for first, last in ranges)


def folded(text: str, *, dots: bool = False) -> str:
    """What is compared of a text: NFKC without case and without what is not to be seen. ``dots``: I and ı are one
    letter, İ and i the other."""
    if text.isascii() and not dots:
        return text.lower()
    text = unicodedata.normalize("NFKC", text)
    text = (text.translate(_TO_DOTS) if dots else text).casefold()
    # Once more: what stood apart by a joiner, and what casefolding wrote as two characters.
    return unicodedata.normalize("NFKC", _patterns().ignored.sub("", text))


def tokens(text: str, *, dots: bool = False) -> list[str]:
    """The words of a text in order; of a script without spaces, its letters, each with its marks."""
    return _patterns().token.findall(folded(text, dots=dots))


def plain(text: str, *, dots: bool = False) -> str:
    """Without case, punctuation of any script and surplus white space: what an exact match compares."""
    text = _patterns().sign.sub("", folded(text, dots=dots))
    return _patterns().space.sub("", " ".join(text.split()))


def said_thrice(text: str) -> str | None:
    """The word that stands three times in a row; None where none does."""
    found = _patterns().again.search(folded(text))
    return found.group(1) if found else None


def words_in(token: str) -> float:
    """How many words a token counts: one, and less where it is a letter of a script without spaces."""
    return 1 / letters if (letters := _letters_of_a_word(ord(token[0]))) else 1.0


def word_ends(text: str) -> list[int]:
    """Where the first word of a text ends, the second one, and so on; the last ends with the text's last letter."""
    ends: list[int] = []
    total = 0.0
    for weight, end in _weighed(text):
        total += weight
        if total > len(ends) + _ROUNDING:
            ends.append(end)
        elif weight:
            ends[-1] = end
    return ends


def _weighed(text: str) -> Iterator[tuple[float, int]]:
    """Each piece of a text: the words it counts, and where it ends. Punctuation alone counts nothing."""
    for piece in _patterns().piece.finditer(text):
        yield (words_in(piece.group()) if any(map(str.isalnum, piece.group())) else 0.0), piece.end()


@cache
def _letters_of_a_word(code: int) -> float:
    """0 for what is no letter of a script without spaces."""
    found = next((letters for first, last, letters in _SPACELESS if first <= code <= last), 0.0)
    return found if found and unicodedata.category(chr(code)) in _LETTERS else 0.0
