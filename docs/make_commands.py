"""Writes docs/commands.md from the commands' own help, so that the two can't differ."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# Fixed before rich looks at the terminal.
os.environ.update(COLUMNS="100", TERM="dumb", NO_COLOR="1", _TYPER_FORCE_DISABLE_TERMINAL="1")

COMMANDS: tuple[tuple[str, ...], ...] = (
    (),
    ("run",),
    ("plan",),
    ("status",),
    ("report",),
    ("novelty",),
    ("score-pairs",),
    ("validate-feedback",),
    ("compare",),
    ("evaluate",),
    ("score",),
    ("doctor",),
    ("config", "show"),
    ("config", "schema"),
    ("config", "init"),
)


def commands_page() -> str:
    """The page's text."""
    from typer.testing import CliRunner

    from refine_af.cli import app

    parts = ["# Commands\n\nMade by `make docs` from the commands' `--help`.\n"]
    for command in COMMANDS:
        shown = CliRunner().invoke(app, [*command, "--help"], prog_name="refine-af", color=False)
        text = "\n".join(line.rstrip() for line in shown.output.strip().splitlines())
        parts.append(f"## {' '.join(('refine-af', *command))}\n\n```text\n{text}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    Path(__file__).with_name("commands.md").write_text(commands_page(), encoding="utf-8")
    sys.stdout.write("docs/commands.md written\n")
