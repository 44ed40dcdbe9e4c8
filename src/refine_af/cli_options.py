"""What several commands take and do: their options, the config that these make, JSON on stdout, and Ctrl-C."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refine_af.errors import InterruptedRunError, UsageError

if TYPE_CHECKING:
    from refine_af.config import Config
    from refine_af.language import Language
    from refine_af.progress import Interruptible

ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML file of options.", show_default=False)]
Preset = Annotated[
    str | None,
    typer.Option(help="embedded, paper-llama2-7b, paper-llama2-13b or paper-mistral-7b.", show_default="embedded"),
]
Seeds = Annotated[str | None, typer.Option(help="JSONL or CSV of seed tasks.", show_default="the 175 built-in tasks")]
Override = Annotated[
    list[str] | None,
    typer.Option("--set", help="An option as key=value; may be given again.", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
RunFolder = Annotated[Path, typer.Argument(help="A run's folder.", show_default=False)]
LanguageCode = Annotated[
    str, typer.Option("--language", help="Code of the texts' language, such as en, zh or ar; mul for several.")
]
ConfiguredLanguage = Annotated[
    str | None,
    typer.Option("--language", help="Code of the texts' language.", show_default="language of the config"),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]


def made_config(
    file: Path | None,
    preset: str | None,
    seeds: str | None,
    overrides: list[str] | None,
    language: str | None = None,
) -> Config:
    from refine_af.config import load_config

    named = [] if language is None else [f"language={json.dumps(language_named(language).code)}"]
    return load_config(file, preset=preset, seeds=seeds, overrides=[*(overrides or ()), *named])


def language_named(code: str) -> Language:
    """Raises UsageError for what is no code of a language."""
    from refine_af.language import Language

    try:
        return Language(code)
    except ValueError as error:
        raise UsageError(f"--language: {error}, not {code!r}") from None


@contextmanager
def interruptible_progress(*, quiet: bool) -> Iterator[Interruptible]:
    """Progress as the terminal can show it, for work that Ctrl-C stops and the same command takes up again."""
    from refine_af.progress import Interruptible, shown_progress

    with shown_progress(quiet=quiet) as display:
        progress = Interruptible(display)
        signal.signal(signal.SIGINT, progress.press)
        try:
            yield progress
        except KeyboardInterrupt:
            # Here, since typer ends the process by itself without a word.
            raise InterruptedRunError("stopped; the same command goes on from here") from None


def tell(*notes: str) -> None:
    """What a user should know beside the result, on stderr."""
    for note in notes:
        typer.echo(f"note: {note}", err=True)


def print_json(value: Any) -> None:
    from refine_af.console import is_unicode

    typer.echo(json.dumps(value, ensure_ascii=not is_unicode(sys.stdout.encoding), indent=2))
