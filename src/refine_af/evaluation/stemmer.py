"""The Porter stemmer as `rouge-score` uses it: NLTK's, with its extensions, for words of a to z and 0 to 9.

The algorithm is M. F. Porter's ("An algorithm for suffix stripping", Program 14.3, 1980); where NLTK departs from it, a
comment says so. Written anew because stemming is most of what ROUGE-L costs.
"""

from __future__ import annotations

import string


def _table(pairs: str) -> dict[str, str]:
    return {ending: other for ending, _, other in (pair.partition(":") for pair in pairs.split())}


# NLTK: forms that the rules would get wrong.
_IRREGULAR = _table(
    "sky:sky skies:sky dying:die lying:lie tying:tie news:news inning:inning innings:inning outing:outing "
    "outings:outing canning:canning cannings:canning howe:howe proceed:proceed exceed:exceed succeed:succeed"
)
# Steps 2 to 4: the measure that what stands before an ending must exceed, and what comes in the ending's place. "bli"
# and "fulli" are NLTK's.
_STEPS = (
    (
        0,
        _table(
            "ational:ate tional:tion enci:ence anci:ance izer:ize bli:ble entli:ent eli:e ousli:ous ization:ize "
            "ation:ate ator:ate alism:al iveness:ive fulness:ful ousness:ous aliti:al iviti:ive biliti:ble fulli:ful"
        ),
    ),
    (0, _table("icate:ic ative: alize:al iciti:ic ical:ic ful: ness:")),
    (1, _table("al: ance: ence: er: ic: able: ible: ant: ement: ment: ent: ion: ou: ism: ate: iti: ous: ive: ize:")),
)
_ENDINGS = tuple(tuple(rules) for _, rules in _STEPS)
# A word with none of these at its end is its own stem.
_CHANGING = (*"seyi", "ed", "ing", "al", "ll", "ful", "er", "ator", "ion", "ism", "ic", "ant", "ent", "ou")
_KINDS = str.maketrans({letter: "v" if letter in "aeiou" else "c" for letter in string.ascii_lowercase + string.digits})
_KINDS[ord("y")] = "y"


def stem(word: str) -> str:
    """The stem of a word of the characters a to z and 0 to 9."""
    if len(word) <= 2 or not word.endswith(_CHANGING):
        return word
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    word = _without_past(_without_plural(word))
    if word.endswith("y") and len(word) > 2 and _shape(word[:-1]).endswith("c"):  # NLTK: not behind a vowel
        word = word[:-1] + "i"
    if word.endswith("alli") and _measure(word[:-4]) > 0:  # NLTK: and the "al" may be a longer ending's
        word = word[:-2]
    if word.endswith("logi"):  # NLTK: the l counts as the stem's
        word = word[:-1] if _measure(word[:-3]) > 0 else word
    for (least, rules), endings in zip(_STEPS, _ENDINGS, strict=True):
        if word.endswith(endings):
            word = _replaced(word, rules, least)
    if word.endswith("e"):
        measure = _measure(word[:-1])
        if measure > 1 or (measure == 1 and not _is_short(word[:-1])):
            word = word[:-1]
    return word[:-1] if word.endswith("ll") and _measure(word[:-1]) > 1 else word


def _without_plural(word: str) -> str:
    if word.endswith("ies"):
        return word[:-1] if len(word) == 4 else word[:-2]  # NLTK: ties, tie; but flies, fli
    if word.endswith("sses"):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def _without_past(word: str) -> str:
    if word.endswith("ied"):
        return word[:-1] if len(word) == 4 else word[:-2]  # NLTK: died, die; but spied, spi
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    for ending in ("ed", "ing"):
        rest = word.removesuffix(ending)
        if rest != word and "v" in _shape(rest):
            return _mended(rest)
    return word


def _mended(rest: str) -> str:
    """What is left when "ed" or "ing" is off, as it was before they came."""
    if rest.endswith(("at", "bl", "iz")):
        return rest + "e"
    if rest[-2:] == 2 * rest[-1] and _shape(rest).endswith("c"):
        return rest if rest.endswith(("l", "s", "z")) else rest[:-1]
    return rest + "e" if _measure(rest) == 1 and _is_short(rest) else rest


def _replaced(word: str, rules: dict[str, str], least: int) -> str:
    """The word with its longest ending among the rules replaced, if what stands before it is long enough."""
    ending = next(word[-size:] for size in range(7, 1, -1) if word[-size:] in rules)
    rest = word[: -len(ending)]
    if _measure(rest) <= least or (ending == "ion" and not rest.endswith(("s", "t"))):
        return word
    return rest + rules[ending]


def _is_short(word: str) -> bool:
    """Whether it ends like "hop", not like "how"; NLTK: or is like "ad"."""
    shape = _shape(word)
    return (shape.endswith("cvc") and not word.endswith(("w", "x", "y"))) or shape == "vc"


def _measure(word: str) -> int:
    """How often a consonant follows a vowel: Porter's m."""
    return _shape(word).count("vc")


def _shape(word: str) -> str:
    """``v`` for each vowel and ``c`` for each consonant; a y is a vowel behind a consonant."""
    shape = word.translate(_KINDS)
    while "y" in shape:
        place = shape.index("y")
        kind = "v" if shape[place - 1 : place] == "c" else "c"
        shape = shape[:place] + kind + shape[place + 1 :]
    return shape
