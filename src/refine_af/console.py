"""The one place through which text reaches a terminal. Texts of users, files and models are shown as they are: nothing
in them is markup, and what the terminal's encoding lacks is replaced."""

from __future__ import annotations

import codecs
import io
import os
import re
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


# What our own words and figures have beyond ASCII: a minus must not become a question mark.
_LIKE = {"\u2212": "-", "–": "-", "—": "-", "…": "...", "✓": "+", "✗": "x", "•": "*", "·": "*", "×": "x", "→": "->"}
_LIKE |= dict.fromkeys("“”„", '"') | dict.fromkeys("‘’", "'")


def plain_console(**settings: Any) -> Console:
    """A console that takes every string as plain text; what shall look otherwise is a rich Text or has a style."""
    from rich.console import Console

    return Console(markup=False, emoji=False, highlight=False, **settings)


def mark(ok: bool | None) -> Text:
    """A tick, a cross, or a dot for what is only told."""
    from rich.text import Text

    sign, colour = {True: ("✓", "green"), False: ("✗", "red"), None: ("•", "yellow")}[ok]
    return Text(sign, style=colour)


def print_error(error: Exception) -> None:
    """One line on stderr, whatever stands in the error's text."""
    print(f"refine-af: {_CONTROL.sub(' ', str(error))}", file=sys.stderr)


def show_what_can_be_shown() -> None:
    """From now on a character that an output's encoding lacks is replaced, where it would end the process, and what is
    printed to an output that was closed before we began goes nowhere."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    codecs.register_error("refine-af", _replaced)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="refine-af")


def _replaced(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return "".join(_LIKE.get(character, "?") for character in error.object[error.start : error.end]), error.end


def is_unicode(encoding: str | None) -> bool:
    """Whether an encoding has all characters."""
    return (encoding or "utf-8").lower().replace("-", "").replace("_", "").startswith("utf")
