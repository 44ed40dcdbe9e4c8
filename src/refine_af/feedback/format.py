"""Whether an output looks like a finished, plain answer: cheap checks that each can be explained in a few words."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from refine_af.feedback.base import Better, Cost, Example
from refine_af.language import ENGLISH, Language

# Words that no English answer of three words or more ends with; other languages have other words.
_DANGLING = re.compile(
    r"an?|the|and|or|but|nor|because|although|if|unless|than|that|which|who|whose|of|to|for|with|without|from|into|by|"
    r"at|as|is|are|was|were|be|been|has|have|had|will|would|can|could|should|may|might|must|its|their|our|your|my|"
    r"very|such|including|like|between",
    re.IGNORECASE,
)
_LONG_LINE = 15  # words: a line of prose this long ends as a sentence; titles, labels and list items are shorter
_OPEN_ENDS = tuple(",:;-–—([{=&\\，、：；،؛")
_COMMAS = ",，、،"
_STATEMENT_END = re.compile(r"[)\]}'\"`];$")
_FENCE = "```"
_LIST_MARK = re.compile(r"^\s*(?:[-*•]\s+|\(?(?:\d{1,3}|[A-Za-z]|[ivx]{1,4})[.)]\s)", re.MULTILINE)
_EMOTICON = re.compile(r"(?<!\S)[:;=]['-]?[()](?!\w)")
_INCHES = re.compile(r'(?<=\d)"')
_BRACKETS: Mapping[str, str] = MappingProxyType({")": "(", "]": "[", "}": "{"})
_ENGLISH_PAIRS: Mapping[str, str] = MappingProxyType({**_BRACKETS, "”": "“", "»": "«"})
# Elsewhere the same quotation mark may open or close: „so“, »so«, ”so”.
_OTHER_PAIRS: Mapping[str, str] = MappingProxyType(
    {**_BRACKETS, "）": "（", "】": "【", "」": "「", "』": "『", "》": "《", "〉": "〈"}
)
_UNMARKED = ("\u0e00", "\u0eff")  # Thai and Lao, whose sentences end with a letter

# Marks of prompts and of tokenizers. One that the task itself shows is no leftover.
_LEFTOVER = re.compile(
    r"^(?:input|output|instruction|response|completion|task|human|user|assistant)\s*\d*:"
    r"|^#{1,6} |<\|[^\n|<>]{1,40}\|>|</?s>|<(?:pad|unk|bos|eos|mask)>|\[/?INST\]|<</?SYS>>"
    r"|<(?:start|end)_of_turn>|<no(?:in|out)put>",
    re.IGNORECASE | re.MULTILINE,
)
_HEADINGS_ASKED = re.compile(r"\b(?:markdown|headings?|headers?|readme|sections?)\b", re.IGNORECASE)
_DIALOGUE_ASKED = re.compile(r"\b(?:dialogue|dialog|conversation|chat|interview|transcript|script)\b", re.IGNORECASE)
_SPEAKERS = frozenset(("human:", "user:", "assistant:"))
_TAG = re.compile(
    r"</?(?:p|br|div|span|b|i|u|a|h[1-6]|ul|ol|li|table|tr|td|th|img|html|head|body|title|script|style|strong|em|"
    r"center|font|input|button|form|hr|pre|code|sup|sub|section|header|footer|nav|link|meta)\b[^<>\n]{0,200}>",
    re.IGNORECASE,
)
_MARKUP_ASKED = re.compile(
    r"html|xml|svg|css|markup|markdown|javascript|\bweb|\btags?\b|\bcode\b|<\w+[^<>\n]{0,200}>", re.IGNORECASE
)


class FormatScorer:
    """The share of six checks that an output passes: finished, balanced, begun, no leftovers, no markup, readable.

    A share and not a product, so that a policy that mends one of two faults sees its score rise. An empty output
    scores 0. :meth:`failed` names what an output fails.
    """

    name = "format"
    low, high = 0.0, 1.0
    better: Better = "high"
    cost: Cost = "rules"

    def __init__(self, language: Language = ENGLISH) -> None:
        self.identity = language.marked("1")
        self._language = language

    def score(self, examples: Sequence[Example]) -> list[float]:
        return [1.0 - len(self.failed(e)) / len(CHECKS) for e in examples]

    def failed(self, example: Example) -> list[str]:
        """The names of the checks that the output fails; all of them where it is empty."""
        if not example.output.strip():
            return list(CHECKS)
        return [name for name, passes in CHECKS.items() if not passes(example, self._language)]


def _finished(example: Example, language: Language) -> bool:
    """It ends as a sentence, a label or a list item does, not in the middle."""
    text = example.output.rstrip()
    if text.endswith(_FENCE):
        return True
    line = text.rsplit("\n", 1)[-1]
    words = line.split()
    if len(text) == 1 or _STATEMENT_END.search(text):
        return True  # a sign alone is an answer, and a semicolon behind a bracket or a quote ends a line of code
    if text.endswith(_OPEN_ENDS) and not _EMOTICON.search(text[-3:]):
        return False
    if language.is_english and len(words) >= 3 and _DANGLING.fullmatch(words[-1]):
        return False
    count = language.count(line)
    enumerated = _LIST_MARK.match(line) or sum(map(line.count, _COMMAS)) * 3 >= count
    prose = count >= _LONG_LINE and not enumerated
    return not prose or not _ends_in_a_word(text, language)


def _ends_in_a_word(text: str, language: Language) -> bool:
    """Where a sentence would have a full stop. The last letter may be a combining mark, as a vowel of Hindi is."""
    last = text[-1]
    if not language.is_english and (_UNMARKED[0] <= last <= _UNMARKED[1]):
        return False
    is_mark = unicodedata.category(last)[0] == "M" and not language.is_english
    return last.isalnum() or (is_mark and language.tokens(f"a{last}") != ["a"])  # which a variation selector leaves


def _balanced(example: Example, language: Language) -> bool:
    """Brackets, double quotes and code fences are closed. What stands in code is left alone."""
    parts = example.output.split(_FENCE)
    if len(parts) % 2 == 0:
        return False
    prose = _EMOTICON.sub("", _LIST_MARK.sub("", " ".join(parts[::2])))
    if _INCHES.sub("", prose).count('"') % 2 and prose.count('"') % 2:
        return False
    pairs = _ENGLISH_PAIRS if language.is_english else _OTHER_PAIRS
    opening = frozenset(pairs.values())
    waiting: list[str] = []
    for ch in prose:
        if ch in opening:
            waiting.append(ch)
        elif ch in pairs and (not waiting or waiting.pop() != pairs[ch]):
            return False
    return not waiting


def _begun(example: Example, language: Language) -> bool:
    """It does not begin with what only follows something else."""
    text = example.output.lstrip()
    return len(text) == 1 or text[0] not in ",;)]}，、；،؛"


def _no_leftovers(example: Example, language: Language) -> bool:
    """No mark of a prompt or a tokenizer that the task does not show itself or ask for."""
    task = example.prompt.lower()
    for match in _LEFTOVER.finditer(example.output):
        mark = match.group().lower()
        asked = (mark.startswith("#") and _HEADINGS_ASKED.search(task)) or (
            mark in _SPEAKERS and _DIALOGUE_ASKED.search(task)
        )
        if mark not in task and not asked:
            return False
    return True


def _no_markup(example: Example, language: Language) -> bool:
    """No HTML tag, unless the task speaks of markup, code or the web, or shows a tag."""
    return not _TAG.search(example.output) or _MARKUP_ASKED.search(example.prompt) is not None


def _readable(example: Example, language: Language) -> bool:
    """No replacement character, and no control, private or unpaired surrogate character."""
    return not any(
        ch == "\ufffd" or (unicodedata.category(ch) in ("Cc", "Co", "Cs") and ch not in "\n\t\r")
        for ch in example.output
    )


CHECKS: Mapping[str, Callable[[Example, Language], bool]] = MappingProxyType(
    {
        "finished": _finished,
        "balanced": _balanced,
        "begun": _begun,
        "no leftovers": _no_leftovers,
        "no markup": _no_markup,
        "readable": _readable,
    }
)
