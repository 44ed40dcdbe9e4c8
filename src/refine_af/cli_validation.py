"""The command that asks whether a reward is worth training on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from refine_af.cli_options import Json, Override, Quiet, RunFolder, interruptible_progress, print_json
from refine_af.environment import quiet_libraries
from refine_af.validation.choices import TRAININGS


def validate_feedback(
    run: RunFolder,
    feedback: Annotated[
        str | None,
        typer.Option(
            help="embedded, instructmining_v1 or _v2, composite, a scorer, or module:attribute.",
            show_default="the run's own",
        ),
    ] = None,
    tasks: Annotated[
        Path | None,
        typer.Option(
            help="Folder of official task files, or JSONL(.gz) or CSV of tasks of your own.",
            show_default="the run's held-out seeds",
        ),
    ] = None,
    trainings: Annotated[int, typer.Option(min=1, help="Students of each choice.")] = TRAININGS,
    set_: Override = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Says whether choosing by a reward makes a better student than chance. Stopped, the same command goes on.

    Students are tuned on the best, the worst and a chance choice out of a run's candidates, and on nonsense of the same
    style, which a measure must not take for more. Before a night of training, one command tells what it can bring.

    refine-af validate-feedback runs/demo

    refine-af validate-feedback runs/demo --feedback my_module:my_reward --trainings 1

    refine-af validate-feedback runs/mine --feedback influence --tasks tasks.jsonl --json
    """
    # Another reward than the run's has none of its scorers and weights.
    named = ["feedback=null", f"feedback.name={json.dumps(feedback)}"] if feedback is not None else []
    with interruptible_progress(quiet=quiet) as progress:
        quiet_libraries()
        from refine_af.config import load_config
        from refine_af.run import open_run
        from refine_af.validation.validate import validate

        open_run(run).close()
        config = load_config(run / "config.yaml", overrides=[*named, *(set_ or ())])
        found = validate(run, config, tasks, trainings, progress)
    if as_json:
        print_json(found.summary())
        return
    from refine_af.console import plain_console
    from refine_af.validation.render import render

    render(found, plain_console())
