"""What a field says: a whole text, yes or no."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from refine_af.errors import UsageError

_YES = frozenset(("true", "yes", "1", "1.0", "y", "t", "on"))
_NO = frozenset(("false", "no", "0", "0.0", "n", "f", "off", "", "none", "null", "nan"))


def text_of(row: Mapping[str, Any], key: str, where: str) -> str:
    """The field's text, "" where there is none. Raises UsageError that begins with ``where``."""
    value = row.get(key)
    return "" if value is None else whole_text(value, f"{where}: {key}")


def whole_text(value: Any, where: str) -> str:
    """Raises UsageError that begins with ``where`` for what is no text, or one that can't be encoded."""
    if not isinstance(value, str):
        raise UsageError(f"{where} must be text, not {type(value).__name__}")
    if any("\ud800" <= ch <= "\udfff" for ch in value):
        raise UsageError(f"{where} holds half of a character (a lone surrogate)")
    return value


def yes_or_no(row: Mapping[str, Any], key: str, where: str) -> bool:
    """Absent means no. Raises UsageError that begins with ``where`` for what is neither."""
    value = row.get(key)
    word = str(value).strip().lower() if isinstance(value, str | int | float) else "" if value is None else "?"
    if word not in _YES and word not in _NO:
        raise UsageError(f"{where}: {key} must be yes or no, found {str(value)[:60]!r}")
    return word in _YES
