"""The command `refine-af compare`; its work is in evaluation/compare.py."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from refine_af.cli_options import print_json
from refine_af.errors import UsageError


def compare(
    control: Annotated[Path, typer.Argument(help="The control's evaluation, a folder.", show_default=False)],
    others: Annotated[list[Path], typer.Argument(help="Evaluations to compare with it.", show_default=False)],
    metric: Annotated[str, typer.Option(help="rouge_l, exact_match, or official: each category's own.")] = "rouge_l",
    chart: Annotated[
        Path | None, typer.Option(help="SVG of each task's difference, sorted.", show_default=False)
    ] = None,
    show: Annotated[int, typer.Option(min=0, help="Tasks shown from each end.")] = 5,
    allow_different: Annotated[
        bool, typer.Option("--allow-different", help="Compare what was evaluated with other settings.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compares evaluations with a control, task by task: wins, ties, losses, and whether it is more than noise.

    refine-af compare evaluations/initial evaluations/tuned

    refine-af compare initial tuned best_of_n --metric official --chart differences.svg --json
    """
    from refine_af.evaluation.compare import METRICS, compare_evaluations
    from refine_af.evaluation.comparison_files import read_evaluation

    if metric not in METRICS:
        raise UsageError(f"--metric must be one of {', '.join(METRICS)}, not {metric}")
    read = [read_evaluation(folder) for folder in (control, *others)]
    compared = compare_evaluations(read[0], read[1:], metric, seed, allow_different=allow_different)
    if chart is not None:
        from refine_af.evaluation.comparison_chart import write_chart

        write_chart(compared, chart)
    if as_json:
        from refine_af.evaluation.comparison_text import as_dict

        print_json(as_dict(compared))
        return
    from refine_af.console import plain_console
    from refine_af.evaluation.comparison_table import render

    render(compared, show, plain_console())
