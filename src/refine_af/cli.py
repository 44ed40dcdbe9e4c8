"""The commands: they read arguments, call the library, and print. No logic lives here."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from refine_af.cli_compare import compare
from refine_af.cli_evaluation import evaluate, score
from refine_af.cli_options import (
    ConfigFile,
    Json,
    Override,
    Preset,
    RunFolder,
    Seeds,
    interruptible_progress,
    made_config,
    print_json,
    tell,
)
from refine_af.cli_rows import novelty, score_pairs
from refine_af.cli_validation import validate_feedback
from refine_af.console import print_error, show_what_can_be_shown
from refine_af.environment import quiet_libraries
from refine_af.errors import DiskFullError, RefineError, UsageError
from refine_af.exhaustion import is_full

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="From a handful of seed tasks to an instruction-tuning data set and a tuned model. No API, no annotators.",
    epilog="Begin with: [bold]refine-af run --preset embedded --out runs/demo[/]",
)
config_app = typer.Typer(no_args_is_help=True, help="Shows, explains and starts configuration files.")
app.add_typer(config_app, name="config")


@app.command()
def run(
    config: ConfigFile = None,
    preset: Preset = None,
    seeds: Seeds = None,
    out: Annotated[Path, typer.Option(help="The run's folder.")] = Path("runs/run"),
    set_: Override = None,
    until: Annotated[str | None, typer.Option(help="Last stage to run.", show_default="report")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start over in a new folder beside OUT.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors alone.")] = False,
) -> None:
    """Runs everything, or goes on where OUT stopped.

    refine-af run --preset embedded --out runs/demo

    refine-af run --seeds my_tasks.jsonl --out runs/mine --set instructions.target=200

    refine-af run --config experiment.yaml --out runs/experiment --until instances

    torchrun --nproc_per_node 2 -m refine_af run --out runs/experiment
    """
    settings = made_config(config, preset, seeds, set_)
    if fresh:
        out = _unused(out)
    with interruptible_progress(quiet=quiet) as progress:
        quiet_libraries()
        from refine_af.progress import duration
        from refine_af.run import Run, open_run
        from refine_af.stages.following import follow
        from refine_af.team import launched_team

        with launched_team() as team:
            if not team.leads:
                follow(settings, team)
                return
            Run(settings, out, progress, team).execute(until)
        if until is None:
            with open_run(out) as store:
                seconds = store.scalar("SELECT SUM(finished_at - started_at) FROM stages")
            progress.note(
                f"done in {duration(seconds)} of work: {out}/report.html (open it), {out}/dataset, {out}/model"
            )


def _unused(folder: Path) -> Path:
    """The folder, or the first of folder-2, folder-3, … that isn't there yet."""
    candidate, number = folder, 1
    while candidate.exists():
        number += 1
        candidate = folder.with_name(f"{folder.name}-{number}")
    return candidate


@app.command()
def plan(
    config: ConfigFile = None,
    preset: Preset = None,
    seeds: Seeds = None,
    set_: Override = None,
    as_json: Json = False,
) -> None:
    """Shows what would run: tokens, hours, memory and disk, and what would be refused, without running it.

    refine-af plan --preset paper-llama2-7b
    """
    settings = made_config(config, preset, seeds, set_)
    from refine_af.checks import refusals
    from refine_af.parts import Parts
    from refine_af.planning import make_plan
    from refine_af.seeds import load_seeds

    seeds_read = load_seeds(settings.seeds.path)
    tell(*seeds_read.notes)
    made = make_plan(settings, len(seeds_read.tasks))
    with tempfile.TemporaryDirectory(prefix="refine-af-") as scratch:
        refused = refusals(settings, Parts(settings, Path(scratch)))
    if as_json:
        print_json({**made.as_dict(), "refused": refused})
        return
    from refine_af.console import plain_console
    from refine_af.planning.render import render

    render(made, refused, plain_console())


@app.command()
def status(folder: RunFolder, as_json: Json = False) -> None:
    """Shows stage, progress, yield by reason and reward of a run.

    refine-af status runs/demo
    """
    from refine_af.run import open_run, run_status

    with open_run(folder) as store:
        found = run_status(store)
    if as_json:
        print_json(found)
        return
    from refine_af.status import render_status

    render_status(found)


@app.command()
def report(folder: RunFolder) -> None:
    """Makes report.html of a run anew, also while it runs.

    refine-af report runs/demo
    """
    from refine_af.report import write_report
    from refine_af.run import open_run

    with open_run(folder) as store:
        write_report(store, folder / "report.html")
    typer.echo(folder / "report.html")


app.command()(novelty)
app.command("score-pairs")(score_pairs)
app.command("validate-feedback")(validate_feedback)
app.command()(compare)
app.command()(evaluate)
app.command()(score)


@app.command()
def doctor(config: ConfigFile = None, preset: Preset = None, set_: Override = None, as_json: Json = False) -> None:
    """Says what is installed, which engine and model would be used, what is missing and how to get it.

    refine-af doctor --preset paper-mistral-7b
    """
    settings = made_config(config, preset, None, set_)
    from refine_af.doctor import as_dict, examine, render

    checks = examine(settings)
    if as_json:
        print_json(as_dict(checks))
    else:
        from refine_af.console import plain_console

        render(checks, plain_console())
    if any(c.ok is False for c in checks):
        raise typer.Exit(1)


@config_app.command("show")
def config_show(config: ConfigFile = None, preset: Preset = None, set_: Override = None, as_json: Json = False) -> None:
    """Prints the whole config as it would be used.

    refine-af config show --preset embedded --set policy.iterations=4
    """
    from refine_af.config import as_yaml

    settings = made_config(config, preset, None, set_)
    if as_json:
        print_json(settings.model_dump(mode="json"))
    else:
        typer.echo(as_yaml(settings), nl=False)


@config_app.command("schema")
def config_schema() -> None:
    """Prints the JSON schema of configuration files, for editors.

    refine-af config schema > refine-af.schema.json
    """
    from refine_af.config import Config

    print_json(Config.model_json_schema())


@config_app.command("init")
def config_init(
    path: Annotated[Path, typer.Argument(help="The file to write.")] = Path("refine-af.yaml"),
    preset: Preset = None,
) -> None:
    """Writes a configuration file with every option of a preset, to be edited.

    refine-af config init my.yaml --preset embedded
    """
    from refine_af.config import as_yaml, load_config

    if path.exists():
        raise UsageError(f"{path} is there already; name another file")
    text = as_yaml(load_config(preset=preset))
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} can't be written: {error.strerror}") from None
    typer.echo(path)


@app.command()
def version() -> None:
    """Prints the version."""
    from refine_af import __version__

    typer.echo(__version__)


# typer carries its own click and shows this class only as an ancestor of what it exports.
_CommandLineError: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


def _print_no_more() -> None:
    """What is left of the output has nowhere to go, and Python would say so once more when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main() -> None:
    """The entry point: an error becomes one line on stderr and an exit code, never a traceback."""
    show_what_can_be_shown()
    try:
        code = app(standalone_mode=False)
    except RefineError as error:
        print_error(error)
        sys.exit(error.exit_code)
    except _CommandLineError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()
        else:
            line = " ".join(error.format_message().split())
            print(f"refine-af: {line} (see `refine-af --help`)", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        _print_no_more()
        sys.exit(1)
    except OSError as error:
        if not is_full(error):
            raise
        _print_no_more()
        print_error(
            DiskFullError("no disk space left where the output goes; free some, and run the same command again")
        )
        sys.exit(DiskFullError.exit_code)
    sys.exit(code if isinstance(code, int) else 0)
