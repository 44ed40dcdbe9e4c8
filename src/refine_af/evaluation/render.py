"""What `refine-af evaluate` and `refine-af score` print for people: the figures by category, then by task."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from refine_af.report.wording import clean


def render(scores: dict[str, Any], console: Console) -> None:
    """Prints what ``scores.json`` or ``score --json`` holds, and the settings that decided where they are known."""
    missing = f", {scores['missing']:,} missing and scored 0" if scores["missing"] else ""
    head = f"ROUGE-L {scores['rouge_l']:.2f}, exact match {scores['exact_match']:.2f}"
    counts = f"{scores['instances']:,} instances of {len(scores['tasks'])} tasks{missing}"
    console.print(f"{head} ({counts})")
    if found := scores.get("likelihood"):
        console.print(_likelihood(found))
    if "settings" in scores:
        told = {name: value for name, value in scores["settings"].items() if name != "likelihood" or value is not None}
        shown = ", ".join(f"{name} {_shown(value)}" for name, value in told.items())
        console.print(clean(shown), style="dim")
    if scores["categories"]:
        console.print()
        console.print(_table("category", scores["categories"]))
        console.print("* the figure that the benchmark's authors report for a category", style="dim")
    console.print()
    console.print(_table("task", scores["tasks"]))


def _table(kind: str, groups: dict[str, Any]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column(kind, overflow="fold")
    for title in ("ROUGE-L", "exact match", "instances", "missing"):
        if title != "missing" or any(one.get("missing") for one in groups.values()):
            table.add_column(title, justify="right", no_wrap=True)
    for name, one in groups.items():
        marks = {one["metric"]: "*"} if "metric" in one else {}
        figures = [f"{one[metric]:.2f}{marks.get(metric, '')}" for metric in ("rouge_l", "exact_match")]
        cells = [*figures, f"{one['instances']:,}", str(one.get("missing", ""))]
        table.add_row(clean(name), *cells[: len(table.columns) - 1])
    return table


def _likelihood(found: dict[str, Any]) -> str:
    margin = "none" if found["margin"] is None else f"{found['margin']:.3f}"
    return (
        f"References, nats: content {found['content']:.3f} a token, margin {margin}, end {found['end']:.3f}, "
        f"loss {found['loss']:.3f} a token (means over {len(found['tasks'])} tasks)"
    )


def _shown(value: Any) -> str:
    return "all" if value is None else str(value)
