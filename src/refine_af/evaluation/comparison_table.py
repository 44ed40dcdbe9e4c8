"""What `refine-af compare` prints for people: all tasks, each category, the tasks at both ends, and words."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from refine_af.evaluation.compare import Comparison, Group, TaskDifference, Versus
from refine_af.evaluation.comparison_text import (
    between,
    conclusion,
    metric_name,
    nats,
    notes,
    p_value,
    percent,
    percents,
    points,
)
from refine_af.report.numbers import number
from refine_af.report.wording import clean


def render(comparison: Comparison, show: int, console: Console) -> None:
    """Prints every comparison; of the tasks, the ``show`` largest gains and the ``show`` largest losses."""
    for place, versus in enumerate(comparison.against):
        if place:
            console.print()
        _head(versus, comparison, console)
        console.print(_figures(versus.overall))
        console.print(
            f"sign test p {p_value(versus.overall.sign_p)}, Wilcoxon p {p_value(versus.overall.wilcoxon_p)}\n"
        )
        console.print(_by_category(versus))
        if versus.likelihoods:
            console.print()
            console.print(_likelihoods(versus))
        if show:
            console.print()
            console.print(_ends(versus.tasks, show))
        console.print()
        console.print(conclusion(versus, comparison.control, metric=comparison.metric), style="bold")
        for note in notes(versus, comparison):
            console.print(note)


def _head(versus: Versus, comparison: Comparison, console: Console) -> None:
    group = versus.overall
    line = (
        f"{clean(versus.name)} against {clean(comparison.control)}, {metric_name(comparison.metric)}: "
        f"{group.wins} won, {group.ties} tied, {group.losses} lost of {group.tasks} tasks, "
        f"{versus.pairing.instances:,} instances"
    )
    console.print(line, style="bold")
    means = f"Mean over tasks {number(group.other, 4)} against {number(group.control, 4)}"
    console.print(f"{means}. Intervals are of 95 %.\n")


def _figures(group: Group) -> Table:
    """The three figures of all tasks with all their intervals."""
    table = _table("", "", "Wilson", "over tasks", "and instances")
    for title, share in (("won, of all tasks", group.share), ("won, of the decided", group.share_decided)):
        levels = share.bootstrap
        found = (percents(one) for one in (share.wilson, levels.tasks, levels.instances))
        table.add_row(title, percent(share.value), *found)
    levels = group.difference.bootstrap
    table.add_row(
        "mean difference", points(group.difference.value), "", between(levels.tasks), between(levels.instances)
    )
    return table


def _by_category(versus: Versus) -> Table:
    table = _table("category", "won/tied/lost", "decided", "Wilson", "difference", "over tasks")
    for group in (*versus.categories, versus.overall):
        share, difference = group.share_decided, group.difference
        table.add_row(
            clean(group.name) or "(none)",
            f"{group.wins}/{group.ties}/{group.losses}",
            percent(share.value),
            percents(share.wilson),
            points(difference.value),
            between(difference.bootstrap.tasks),
            style="bold" if group is versus.overall else "",
        )
    return table


def _likelihoods(versus: Versus) -> Table:
    table = _table("references, in nats", "mean", "control", "difference", "over tasks", "won/lost")
    for one in versus.likelihoods:
        interval = f"{nats(one.interval[0])} to {nats(one.interval[1])}"
        table.add_row(
            "loss (lower is better)" if one.figure == "loss" else one.figure,
            *(f"{value:.3f}" for value in (one.other, one.control)),
            nats(one.difference),
            interval,
            f"{one.wins}/{one.losses}",
        )
    return table


def _ends(tasks: tuple[TaskDifference, ...], show: int) -> Table:
    """The first and the last ``show`` tasks that do not tie; a task is never shown twice."""
    decided = [task for task in tasks if task.difference]
    table = _table("task", "difference", "over instances")
    kept = decided if len(decided) <= 2 * show else decided[:show] + decided[-show:]
    for place, task in enumerate(kept):
        if place == show and len(kept) < len(decided):
            table.add_row(f"… {len(decided) - len(kept)} more", style="dim")
        table.add_row(clean(task.name), points(task.difference), between(task.interval))
    if len(decided) < len(tasks):
        table.add_row(f"{len(tasks) - len(decided)} tied", style="dim")
    return table


def _table(first: str, *titles: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column(first, overflow="fold")
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    return table
