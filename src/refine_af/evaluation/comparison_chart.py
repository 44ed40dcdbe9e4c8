"""The chart of a comparison: each task's difference as a bar, sorted, one panel for each evaluation.

A task's name stands on the side of zero that its bar leaves free, so that long names fit. Blue to the right is a
gain, orange to the left a loss; tasks that tie are counted in one line between them.
"""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup, escape

from refine_af.errors import UsageError
from refine_af.evaluation.compare import Comparison, TaskDifference, Versus
from refine_af.evaluation.comparison_text import metric_name, points
from refine_af.files import write_text
from refine_af.report.numbers import tick_labels, ticks
from refine_af.report.svg import CHAR, clipped, svg, svg_text
from refine_af.report.wording import clean

_WIDTH, _STEP, _HEAD, _GAP = 500, 18, 56, 26
_ZERO = _WIDTH / 2
_VALUE = 52.0  # room for a bar's value beside the longest bar
_NAME_CHAR = 6.3  # width of a character of a name in a wide font: better clipped than cut by the edge


def write_chart(comparison: Comparison, path: Path) -> None:
    """Writes the chart as an SVG file that needs nothing else. Raises UsageError where it can't be written."""
    try:
        write_text(path, difference_chart(comparison, standalone=True))
    except OSError as error:
        raise UsageError(f"{path} can't be written: {error.strerror}; name another file") from None


def difference_chart(comparison: Comparison, *, standalone: bool = False) -> Markup:
    """The chart as markup for a page with the report's style, or with its own. All panels share one scale."""
    largest = max(abs(task.difference) for versus in comparison.against for task in versus.tasks) or 1.0
    parts, top = [], 0
    for versus in comparison.against:
        drawn, height = _panel(versus, comparison, largest, top)
        parts.append(drawn)
        top += height + _GAP
    title = f"Difference of each task to {clean(comparison.control)}, in points of {metric_name(comparison.metric)}"
    summary = "; ".join(f"{clean(v.name)}: {_counts(v)}" for v in comparison.against)
    return svg(title, summary, _WIDTH, top - _GAP + 8, parts, standalone=standalone)


def _counts(versus: Versus) -> str:
    group = versus.overall
    return f"{group.wins} won, {group.ties} tied, {group.losses} lost"


def _panel(versus: Versus, comparison: Comparison, largest: float, top: int) -> tuple[str, int]:
    """One evaluation's bars from ``top`` down, and the height they take."""
    wins = [task for task in versus.tasks if task.outcome == "win"]
    losses = [task for task in versus.tasks if task.outcome == "loss"]
    ties = versus.overall.ties
    rows = len(wins) + len(losses) + (ties > 0)
    scale = (_ZERO - _VALUE) / largest
    title = f"{clean(versus.name)} − {clean(comparison.control)}"
    parts = [
        svg_text(8, top + 16, clipped(title, _WIDTH - 16, CHAR * 1.1), "start", "val"),
        svg_text(8, top + 31, f"{_counts(versus)}; {metric_name(comparison.metric)}, points", "start", "tick"),
        _axis(scale, largest, top + _HEAD, rows),
    ]
    y = top + _HEAD
    for task in wins:
        parts.append(_bar(task, scale, y))
        y += _STEP
    if ties:
        parts.append(_tied(ties, y))
        y += _STEP
    for task in losses:
        parts.append(_bar(task, scale, y))
        y += _STEP
    note = "Full colour: the interval over the task's own instances excludes zero."
    parts.append(svg_text(8, y + 16, note, "start", "tick"))
    return "".join(parts), y + 20 - top


def _axis(scale: float, largest: float, top: int, rows: int) -> str:
    """Ticks above the bars and their lines through them."""
    places = ticks(-largest, largest, 6)
    bottom = top + rows * _STEP
    parts = []
    for place, label in zip(places, tick_labels(places), strict=True):
        x, css = _ZERO + place * scale, "grid" if place else "axis"
        parts.append(f'<line class="{css}" x1="{x:.1f}" y1="{top - 4}" x2="{x:.1f}" y2="{bottom}"/>')
        parts.append(svg_text(x, top - 8, label if place <= 0 else f"+{label}", "middle", "tick"))
    return "".join(parts)


def _bar(task: TaskDifference, scale: float, y: int) -> str:
    """Name, bar and value of one task; the full name and both scores show when the pointer rests on it."""
    gain, length = task.difference > 0, max(1.0, abs(task.difference) * scale)
    x = _ZERO if gain else _ZERO - length
    sure = task.interval is not None and not task.interval[0] <= 0 <= task.interval[1]
    away, anchor, other = (1, "start", "end") if gain else (-1, "end", "start")
    name = clipped(clean(task.name), _ZERO - 8, _NAME_CHAR)
    tip = f"{clean(task.name)}: {task.other:.1f} against {task.control:.1f}, {task.instances} instances"
    return (
        f"<g><title>{escape(tip)}</title>"
        + svg_text(_ZERO - 6 * away, y + 13, name, other, "tick name")
        + f'<rect class="f{0 if gain else 1}{"" if sure else " unsure"}" x="{x:.1f}" y="{y + 3}" width="{length:.1f}" '
        f'height="{_STEP - 6}" rx="2"/>'
        + svg_text(_ZERO + (length + 4) * away, y + 13, points(task.difference), anchor, "tick val")
        + "</g>"
    )


def _tied(count: int, y: int) -> str:
    return svg_text(_ZERO - 6, y + 13, f"{count} task{'s' * (count != 1)} tied", "end", "tick val")
