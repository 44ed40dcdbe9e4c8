"""What an endpoint's completion says: its text without the thinking before it, or why there is none.

Servers answer 200 for much that is no answer: a refusal, a tool call, a filter, thoughts that used up the tokens, an
error. None of these is an empty answer of the model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from refine_af.thoughts import without_thoughts

_HALVES = re.compile("[\ud800-\udfff]")


class AskAgainError(Exception):
    """A completion that may be another one when asked for again; its text says what came."""


@dataclass(frozen=True, slots=True)
class Answer:
    """``silence`` names why there is no text, and is empty where there is one."""

    text: str
    silence: str = ""


def first_choice(body: Any) -> Mapping[str, Any]:
    """The first of a completion's choices; empty where the body has none of this form.

    Raises AskAgainError for an error in its place.
    """
    choices = body.get("choices") if isinstance(body, dict) else None
    if choices == []:
        raise AskAgainError("returned no choice")
    first = choices[0] if isinstance(choices, list) else None
    if not isinstance(first, dict):
        return {}
    if first.get("error") or first.get("finish_reason") == "error":
        raise AskAgainError(f"answered 200 with an error ({said_of(first.get('error'))})")
    return first


def said_of(error: Any) -> str:
    """An error's own words, in one line."""
    words = error.get("message", error) if isinstance(error, dict) else error
    return " ".join(str(words).split())[:200]


def answer_of(choice: Mapping[str, Any], *, plain: bool = False) -> Answer | None:
    """What a choice says, of ``/completions`` where it is ``plain``; None where it has no such form."""
    message = choice if plain else choice.get("message")
    if not isinstance(message, dict) or (plain and "text" not in choice):
        return None
    content = message.get("text" if plain else "content")
    parts = content if isinstance(content, list) else [content]
    if not all(part is None or isinstance(part, str | dict) for part in parts):
        return None
    text, thinking = without_thoughts("".join(map(_text, parts)))
    if text.strip():
        return Answer(text)
    return Answer("", _silence(choice, message, null=content is None, thinking=thinking))


def _text(part: Any) -> str:
    text = part.get("text") if isinstance(part, dict) and "thinking" not in part else part
    # JSON can hold half of a character, which no file can.
    return _HALVES.sub("\ufffd", text) if isinstance(text, str) else ""


def _silence(choice: Mapping[str, Any], message: Mapping[str, Any], *, null: bool, thinking: bool) -> str:
    parts = message.get("content")
    kinds = [part.get("type") for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
    if message.get("refusal") or "refusal" in kinds:
        return "refusal"
    if message.get("tool_calls") or message.get("function_call"):
        return "tool call"
    end = choice.get("finish_reason")
    if end == "content_filter":
        return "content filter"
    reasons = any(message.get(key) for key in ("reasoning_content", "reasoning", "thinking"))
    kind = "reasoning without an answer" if thinking or reasons else "null content" if null else "empty text"
    return f"{kind} (finish_reason {said_of(end)[:40]})"
