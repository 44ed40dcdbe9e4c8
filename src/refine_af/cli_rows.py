"""The commands on files of rows: which instructions are new, and what pairs are worth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from refine_af.cli_options import (
    ConfigFile,
    ConfiguredLanguage,
    Json,
    LanguageCode,
    Override,
    Preset,
    Quiet,
    Seeds,
    interruptible_progress,
    language_named,
    made_config,
    print_json,
    tell,
)
from refine_af.environment import quiet_libraries


def novelty(
    file: Annotated[Path, typer.Argument(help="JSONL, CSV, or one text a line.", show_default=False)],
    against: Annotated[
        Path | None,
        typer.Option(help="Rows that must not be repeated: an evaluation set.", show_default=False),
    ] = None,
    threshold: Annotated[float, typer.Option(help="ROUGE-L above which a text is a repetition.")] = 0.7,
    out: Annotated[
        Path | None, typer.Option(help="Folder for kept.jsonl and dropped.jsonl.", show_default=False)
    ] = None,
    language: LanguageCode = "en",
    as_json: Json = False,
) -> None:
    """Keeps the rows of a file that repeat no row before them, by ROUGE-L, and none of another file.

    refine-af novelty instructions.jsonl --out novel

    refine-af novelty train.csv --against test.jsonl --threshold 0.6 --json

    refine-af novelty instructions.jsonl --language zh
    """
    from refine_af.novelty.screen import read_rows, screen

    spoken = language_named(language)
    screened = screen(read_rows(file, tell), read_rows(against, tell) if against else (), threshold, spoken)
    tell(*screened.notes)
    if out is not None:
        screened.write(out)
    summary = screened.summary()
    if as_json:
        print_json(summary)
        return
    reasons = ", ".join(f"{count} {reason}" for reason, count in summary["reasons"].items() if count)
    typer.echo(f"{summary['kept']} kept of {summary['read']}" + (f"; dropped: {reasons}" if reasons else ""))


def score_pairs(
    file: Annotated[Path, typer.Argument(help="JSONL or CSV of instruction, input, output.", show_default=False)],
    feedback: Annotated[
        str | None,
        typer.Option(
            help="embedded, instructmining_v1 or _v2, composite, a scorer, or module:attribute.",
            show_default="feedback.name of the config",
        ),
    ] = None,
    config: ConfigFile = None,
    preset: Preset = None,
    seeds: Seeds = None,
    set_: Override = None,
    language: ConfiguredLanguage = None,
    out: Annotated[Path | None, typer.Option(help="JSONL of the rows with their scores.", show_default=False)] = None,
    show: Annotated[int, typer.Option(min=0, help="Pairs shown from each end.")] = 3,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Scores the pairs of any file, and shows what the reward is made of. Stopped, the same command goes on.

    refine-af score-pairs pairs.jsonl --feedback embedded --out scored.jsonl

    refine-af score-pairs pairs.jsonl --feedback my_module:my_reward --show 5

    refine-af score-pairs pairs.csv --config experiment.yaml --json
    """
    named = [f"feedback.name={json.dumps(feedback)}"] if feedback is not None else []
    settings = made_config(config, preset, seeds, [*(set_ or ()), *named], language)
    with interruptible_progress(quiet=quiet) as progress:
        quiet_libraries()
        from refine_af.feedback.ranking import rank_file

        ranked = rank_file(file, settings, out, progress)
    if as_json:
        print_json(ranked.summary())
        return
    from refine_af.console import plain_console
    from refine_af.feedback.ranking.render import render

    render(ranked, settings.feedback.name, show, plain_console())
