"""The commands that score: `evaluate` asks a model, `score` takes anybody's predictions."""

from __future__ import annotations

from enum import Enum
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
    interruptible_progress,
    language_named,
    made_config,
    print_json,
    tell,
)
from refine_af.environment import quiet_libraries

Tasks = Annotated[
    Path,
    typer.Option(help="Folder of official task files, or JSONL(.gz) or CSV of tasks of your own.", show_default=False),
]
Instances = Annotated[int | None, typer.Option(min=1, help="First instances of each task.", show_default="all")]


class Prompt(str, Enum):
    """The choices of --prompt."""

    auto, plain, chat = "auto", "plain", "chat"


class CutRule(str, Enum):
    """The choices of --cut."""

    none, first_line, blank_line = "none", "first_line", "blank_line"


class Shots(str, Enum):
    """The choices of --shots: definition alone, or with two positive examples."""

    zero, two = "0", "2"


def evaluate(
    model: Annotated[
        str,
        typer.Argument(
            help="embedded, a model's folder or Hub name, a LoRA adapter's or a run's folder, or https://…/v1.",
            show_default=False,
        ),
    ],
    tasks: Tasks,
    out: Annotated[Path, typer.Option(help="The evaluation's folder.", show_default=False)],
    instances: Instances = None,
    shots: Annotated[Shots, typer.Option(help="Positive examples shown.")] = Shots.zero,
    max_source: Annotated[int, typer.Option(min=1, help="Longest source, in tokens; what is longer is cut.")] = 1024,
    max_target: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 128,
    cut: Annotated[CutRule, typer.Option(help="Where an answer that runs on is cut.")] = CutRule.none,
    prompt: Annotated[Prompt, typer.Option(help="auto: the chat template where the model has one.")] = Prompt.auto,
    likelihood: Annotated[
        bool, typer.Option("--likelihood", help="Also how likely the references are: content, margin, end, loss.")
    ] = False,
    served: Annotated[
        str | None, typer.Option(help="The model's name at an endpoint.", show_default="the only one there")
    ] = None,
    language: ConfiguredLanguage = None,
    config: ConfigFile = None,
    preset: Preset = None,
    set_: Override = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Evaluates a model on Super-NaturalInstructions or tasks of your own. Stopped, the same command goes on.

    refine-af evaluate embedded --tasks natural-instructions --instances 10 --out evaluations/base

    refine-af evaluate runs/demo --tasks superni_test.jsonl.gz --shots 2 --out evaluations/tuned

    refine-af evaluate http://localhost:8000/v1 --tasks mine.jsonl --cut first_line --out evaluations/served
    """
    settings = made_config(config, preset, None, set_, language)
    with interruptible_progress(quiet=quiet) as progress:
        quiet_libraries()
        from refine_af.evaluation.evaluate import Options, silence_told
        from refine_af.evaluation.evaluate import evaluate as evaluated
        from refine_af.evaluation.likelihood import REFERENCES

        scored = REFERENCES if likelihood else None
        options = Options(
            int(shots.value), max_source, max_target, cut.value, instances, scored, language=settings.reads
        )
        found = evaluated(model, tasks, out, settings, options, progress, prompt=prompt.value, served=served)
    tell(*silence_told(found))
    if as_json:
        print_json(found)
        return
    from refine_af.console import plain_console
    from refine_af.evaluation.render import render

    render(found, plain_console())


def score(
    predictions: Annotated[
        Path, typer.Argument(help="JSONL or CSV of id and prediction, or an evaluation's folder.", show_default=False)
    ],
    tasks: Tasks,
    instances: Instances = None,
    language: LanguageCode = "en",
    as_json: Json = False,
) -> None:
    """Scores anybody's predictions: ROUGE-L and exact match, by task and category, as the benchmark's authors do.

    refine-af score predictions.jsonl --tasks natural-instructions

    refine-af score predictions.jsonl --tasks superni_test.jsonl.gz --instances 10 --json

    refine-af score predictions.jsonl --tasks mine.jsonl --language zh
    """
    from refine_af.evaluation.score import score_file

    scored = score_file(predictions, tasks, instances, language_named(language))
    tell(*scored.told())
    if as_json:
        print_json(scored.summary())
        return
    from refine_af.console import plain_console
    from refine_af.evaluation.render import render

    render(scored.summary(), plain_console())
