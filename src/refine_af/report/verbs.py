"""What instructions ask for: (verb, direct object) pairs, found by rules on words instead of a parser.

The rules are a heuristic: they read imperatives ("Write a short poem about ..."), requests ("Could you
list ...") and questions, and leave out what they can't read, so that a count is a lower bound, never a guess.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

_TOKEN = re.compile(r"[^\W\d_](?:[\w]|['’-](?=\w))*|\d+(?:[.,:]\d+)*|[^\w\s]|_+")
_MOST_TOKENS = 400  # enough for 150 words; a text without end must not cost time
_LONGEST_PHRASE = 8


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_VERBS = _words(
    """act add adjust analyse analyze annotate answer apply argue arrange ask assess assign assume be
    brainstorm break build calculate carry categorise categorize change check choose cite clarify
    classify collect combine come comment compare complete compose compute conclude conduct construct
    consider continue contrast convert copy correct count craft create critique debate decide deduce
    define delete demonstrate derive describe design detect determine develop devise differentiate
    discuss distinguish divide do draft draw edit elaborate eliminate emphasise emphasize encode
    enumerate estimate evaluate examine expand explain explore express extract fill filter find finish
    fix follow form formulate generate get give group guess help highlight identify illustrate imagine
    implement improve include indicate infer insert interpret introduce invent join judge justify keep
    label let list locate look make mark match mention merge modify move multiply name narrate negate
    normalise normalize note offer omit order organise organize outline pack pair paraphrase parse
    perform pick plan play point predict prepare present pretend print produce pronounce proofread
    propose prove provide punctuate put quote rank rate read rearrange recall recommend reduce refer
    reformat reformulate remove rename reorder rephrase replace reply report respond restate retell
    return reverse review revise rewrite round rule say score search select send separate set shorten
    show simplify sing solve sort speak specify spell split state structure suggest sum summarise
    summarize supply swap take tell test think trace transcribe transform translate trim try turn
    unscramble update use validate verify visualise visualize weigh work write"""
)
_FILLERS = _words("please kindly now then next first finally also just so and ok okay hi hello hey")
_REQUESTS: tuple[tuple[str, ...], ...] = tuple(
    tuple(phrase.split())
    for phrase in (
        "i want you to", "i would like you to", "i'd like you to", "i need you to", "your task is to",
        "your job is to", "your goal is to", "the task is to", "the goal is to", "you are asked to",
        "you need to", "you have to", "you are to", "you should", "you must", "you will", "let us", "let's",
        "help me to", "help me", "can you", "could you", "would you", "will you", "try to",
        "be sure to", "in order to",
    )
)  # fmt: skip
_OPENERS = _words(
    """after although as at because before below by considering during each for from given here if imagine in
    like of on since suppose taking to under unless using when whenever where while with within without
    based"""
)
_WH = _words("what how which who whom whose why where when")
_AUXILIARIES = _words(
    """is are was were am does did do has have had can could should would will may might must shall"""
)
_SURE_AUXILIARIES = _words("is are was were am does did")
_DETERMINERS = _words(
    """a an the this that these those my your his her its our their any some each every all both no another
    such following given first last next several many more most few fewer at least up to exactly only"""
)
_NUMBERS = _words("one two three four five six seven eight nine ten eleven twelve twenty fifty hundred")
_INDIRECT = _words("me us him them")
_PRONOUNS = _words("it this that these those them him her us me yourself one")
_PARTICLES = _words("up out down off over in back away together")
_STOPS = _words(
    """of in on at by for from to into onto with without about as than through between among within over under
    during after before against like per via using toward towards regarding concerning and or but nor so
    yet if whether because while when where how why what which who whom whose that is are was were be
    been being has have had do does did can could should would will may might must not then below above
    based given used provided written called named listed made found shown taken you i we they he she it
    there here so"""
)
_ADJECTIVES = _words(
    """short long brief simple complex new old good bad big small large great clear concise detailed formal
    informal polite friendly funny sad happy different similar common main important real fictional true
    false full own warm firm calm quick early late easy hard difficult correct wrong single little"""
)
_ADJECTIVE_ENDINGS = ("ful", "ous", "ive", "ible", "able", "less", "ish", "esque")
_NOUNS_IN_ING = _words(
    """building learning meeting meaning spelling reading writing ending heading greeting setting
    string thing"""
)
_MARKS = frozenset(("'", '"', "‘", "“", "-", "–", "*", "`"))
_PLURALS = {"movies": "movie", "cookies": "cookie", "calories": "calorie", "people": "people", "lies": "lie"}
_NO_PLURALS = _words("series species news lyrics mathematics physics means perhaps has was")


def verb_objects(texts: Iterable[str]) -> list[tuple[str, str, int]]:
    """(verb, object, count), the most common first, equal counts alphabetically.

    The object is "" where a verb has none ("Explain how ..."); a question is ("question: how", "", count).
    Texts in which no rule applies are not counted.
    """
    counts = Counter(pair for pair in map(verb_object, texts) if pair is not None)
    return sorted(((verb, obj, n) for (verb, obj), n in counts.items()), key=lambda row: (-row[2], row[0], row[1]))


def verb_object(text: str) -> tuple[str, str] | None:
    """The pair of one text, out of the first of its sentences that has one; None where no rule applies."""
    tokens = [t.replace("’", "'") for t in _TOKEN.findall(text[: _MOST_TOKENS * 12].lower())][:_MOST_TOKENS]
    for sentence, end in _sentences(tokens):
        pair = _imperative(sentence) if end != "?" or _is_request(sentence) else None
        pair = pair or _question(sentence, end)
        if pair is not None:
            return pair
    return None


def _sentences(tokens: Sequence[str]) -> Iterable[tuple[list[str], str]]:
    """Runs of tokens with the mark that ends them; marks in front are dropped."""
    current: list[str] = []
    for token in tokens:
        if token in {".", "!", "?", ";", ":"}:
            if current:
                yield current, token
            current = []
        elif current or token[0].isalpha():  # numbering, quotes and bullets stay outside
            current.append(token)
    if current:
        yield current, ""


def _is_request(tokens: Sequence[str]) -> bool:
    return _after_politeness(tokens)[1]


def _after_politeness(tokens: Sequence[str]) -> tuple[list[str], bool]:
    """What is left after "please", "could you" and the like, and whether such a request was there."""
    rest, asked = list(tokens), False
    while rest:
        phrase = next((p for p in _REQUESTS if tuple(rest[: len(p)]) == p), None)
        if phrase is not None:
            rest, asked = rest[len(phrase) :], True
        elif rest[0] in _FILLERS or rest[0] == ",":
            asked = asked or rest[0] == "please"
            rest = rest[1:]
        elif rest[0].endswith("ly") and len(rest) > 1 and rest[1] in _VERBS:
            rest = rest[1:]
        else:
            break
    return rest, asked


def _imperative(tokens: Sequence[str]) -> tuple[str, str] | None:
    rest, _ = _after_politeness(tokens)
    if not rest:
        return None
    if rest[0] in _OPENERS:
        return _after_clause(rest)
    if rest[:3] == ["come", "up", "with"]:
        return "come up with", _object(rest[3:])
    following = rest[1] if len(rest) > 1 else ""
    known = rest[0] in _VERBS
    shaped_like_one = (
        rest[0].isalpha()
        and rest[0] not in _STOPS | _DETERMINERS | _WH | _NUMBERS
        and following in (_DETERMINERS | _INDIRECT)
    )
    if not (known or shaped_like_one) or (following in _SURE_AUXILIARIES):
        return None
    return rest[0], _object(rest[1:])


def _after_clause(tokens: Sequence[str]) -> tuple[str, str] | None:
    """The verb behind a clause such as "Given a list, ...": a known one, since nouns follow commas too."""
    for place, token in enumerate(tokens):
        if token == ",":
            rest, _ = _after_politeness(tokens[place + 1 :])
            if rest and rest[0] in _VERBS and not (len(rest) > 1 and rest[1] in {",", "and", "or"}):
                return _imperative(rest)
    return None


def _question(tokens: Sequence[str], end: str) -> tuple[str, str] | None:
    rest, _ = _after_politeness(tokens)
    if not rest:
        return None
    if rest[0] in _OPENERS and rest[0] not in _WH and "," in rest:
        after = rest[rest.index(",") + 1 :]
        rest = after or rest
    if rest[0] in _WH and (end == "?" or (len(rest) > 1 and rest[1] in _AUXILIARIES)):
        return f"question: {rest[0]}", ""
    if end == "?":
        early = next((word for word in rest[:4] if word in _WH), None)
        if rest[0] in _AUXILIARIES:
            return f"question: {rest[0]}", ""
        if early is not None:
            return f"question: {early}", ""
    return None


def _object(tokens: Sequence[str]) -> str:
    """Head noun of the noun phrase that begins here, "" if none does."""
    rest = list(tokens)
    while rest and rest[0] in _PARTICLES:
        rest = rest[1:]
    if len(rest) > 1 and rest[0] in _INDIRECT and rest[1] not in _STOPS and rest[1].isalnum():
        rest = rest[1:]
    phrase: list[str] = []
    for place, token in enumerate(rest[: _LONGEST_PHRASE * 2]):
        following = rest[place + 1] if place + 1 < len(rest) else ""
        if not phrase and _is_opening(token, following):
            continue
        if token in {",", "but", "and"} and phrase and _is_adjective(phrase[-1]):
            continue  # "a short, funny but polite letter"
        if token in _STOPS | _PARTICLES or not token[0].isalpha() or len(phrase) == _LONGEST_PHRASE:
            break
        if phrase and _modifies_from_behind(token, following):
            break
        phrase.append(token)
    if phrase:
        return _singular(phrase[-1].removesuffix("'s").removesuffix("'"))
    return rest[0] if rest and rest[0] in _PRONOUNS else ""


def _is_opening(token: str, following: str) -> bool:
    """Determiners, numbers and quotes in front of a noun; "one or two" as a whole."""
    if token in {"or", "to"}:
        return following in _NUMBERS or following[:1].isdigit()
    return token in _DETERMINERS or token in _NUMBERS or token[0].isdigit() or token in _MARKS


def _modifies_from_behind(token: str, following: str) -> bool:
    """The words after a noun in "a letter asking for ...", "the error described here", "each side fairly"."""
    if token.endswith("ing") and token not in _NOUNS_IN_ING:
        return following in _DETERMINERS | _STOPS | _PRONOUNS | _NUMBERS
    return token.endswith(("ed", "ly")) and not (following[:1].isalpha() and following not in _STOPS)


def _is_adjective(word: str) -> bool:
    return word in _ADJECTIVES or word.endswith(_ADJECTIVE_ENDINGS)


def _singular(noun: str) -> str:
    if noun in _PLURALS:
        return _PLURALS[noun]
    if noun in _NO_PLURALS or len(noun) < 4 or not noun.endswith("s") or noun.endswith(("ss", "us", "is")):
        return noun
    if noun.endswith("ies"):
        return noun[:-3] + "y"
    if noun.endswith(("sses", "shes", "ches", "xes")):
        return noun[:-2]
    return noun[:-1]
