"""Charts as inline SVG: lines with a band, histograms, horizontal bars, a funnel; no script, no asset.

Colours are CSS classes that the page defines for light and dark. Sizes are chosen so that text stays
readable when a chart is scaled to a phone's width. Values that are not finite are left out; a chart without
values says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from refine_af.report.numbers import number, tick_labels, ticks
from refine_af.report.svg import CHAR, clipped, svg, svg_empty, svg_text

_BAR_CHAR = 7.0  # width of a character in charts of bars, whose text is larger on a phone
_DOT_LIMIT = 40  # more points than this are drawn as a line alone
_DASHES = ("", "5 3", "2 3", "8 3 2 3", "1 2", "10 4")


@dataclass(frozen=True, slots=True)
class Series:
    """A named line: points as (x, y); ``band`` is the (low, high) around each point, where there is one."""

    name: str
    points: Sequence[tuple[float, float]]
    band: Sequence[tuple[float, float]] = ()


@dataclass(frozen=True, slots=True)
class FunnelRow:
    """A step of a funnel: a "total" starts at zero, a "drop" is taken from the right of what is left."""

    label: str
    value: int
    kind: str = "drop"  # total, drop, kept or selected


@dataclass(frozen=True, slots=True)
class _Frame:
    """The plot's box in the drawing, and the ranges of its axes."""

    left: float
    top: float
    right: float
    bottom: float
    x_low: float
    x_high: float
    y_low: float
    y_high: float

    def x(self, value: float) -> float:
        return self.left + (value - self.x_low) / (self.x_high - self.x_low) * (self.right - self.left)

    def y(self, value: float) -> float:
        return self.bottom - (value - self.y_low) / (self.y_high - self.y_low) * (self.bottom - self.top)


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str = "",
    zero: bool = False,
    wide: bool = False,
    y_format: Callable[[float], str] = number,
) -> Markup:
    """Lines over x with their last values written beside them. ``zero``: the y axis includes 0.

    ``wide``: drawn for half of the page's width, not for a third.
    """
    width, height = (460, 224) if wide else (340, 204)
    finite = [(s, _finite(s)) for s in series]
    xs = [x for _, pts in finite for x, _ in pts]
    ys = [y for _, pts in finite for _, y in pts]
    ys += [v for s in series for pair in s.band for v in pair if _drawable(v)]
    if not xs:
        return svg_empty(title, width, height)
    lasts = [(index, pts[-1]) for index, (_, pts) in enumerate(finite) if pts]
    margin = max(len(y_format(y)) for _, (_, y) in lasts) * CHAR + 12
    (x_low, x_high), (y_low, y_high) = (
        _padded(min(xs), max(xs), 0),
        _padded(min(ys), max(ys), 0.06, zero=zero),
    )
    left = max(map(len, tick_labels(ticks(y_low, y_high))), default=2) * CHAR + 10
    top = 14.0 + (18 if len(series) > 1 else 0)
    frame = _Frame(left, top, width - margin, height - 34, x_low, x_high, y_low, y_high)
    parts = [_axes(frame, x_label)]
    for index, (one, points) in enumerate(finite):
        parts.append(_band(one, frame, index))
        parts.append(_line(one, points, frame, index))
    parts.append(_end_labels(lasts, frame, y_format))
    if len(series) > 1:
        parts.append(_legend([s.name for s in series], left))
    summary = "; ".join(f"{s.name}: {y_format(p[0][1])} to {y_format(p[-1][1])}" for s, p in finite if p)
    return svg(title, summary, width, height, parts)


def histogram(
    series: Sequence[tuple[str, Sequence[float]]],
    *,
    title: str,
    x_label: str = "",
    marks: Sequence[tuple[float, str]] = (),
    bins: int = 16,
) -> Markup:
    """Counts in equal bins, each named sample as an outline; ``marks`` are vertical lines with a text."""
    width, height = 460, 224
    samples = [(name, [v for v in values if _drawable(v)]) for name, values in series]
    pooled = [v for _, values in samples for v in values]
    if not pooled:
        return svg_empty(title, width, height)
    marks = [(v, text) for v, text in marks if _drawable(v)]
    low, high = _padded(min([*pooled, *(m for m, _ in marks)]), max([*pooled, *(m for m, _ in marks)]), 0.02)
    if all(v == int(v) for v in pooled) and high - low < bins:  # whole numbers: one bin each
        low, high = math.floor(min(pooled)) - 0.5, math.ceil(max(pooled)) + 0.5
        bins = max(1, round(high - low))
    counts = [(name, _binned(values, low, high, bins)) for name, values in samples]
    peak = max(max(c) for _, c in counts)
    top = 14.0 + (18 if len(series) > 1 else 0) + 14 * len(marks)
    left = len(number(peak)) * CHAR + 14
    frame = _Frame(left, top, width - 12, height - 34, low, high, 0, peak * 1.04)
    parts = [_axes(frame, x_label, whole=True)]
    for index, (_, heights) in enumerate(counts):
        parts.append(_steps(heights, frame, index, fill=index == 0 or len(counts) < 3))
    for row, (value, text) in enumerate(marks):
        parts.append(_mark(value, text, frame, row, len(marks)))
    if len(series) > 1:
        parts.append(_legend([name for name, _ in series], left, dashed=False))
    summary = "; ".join(f"{name}: {len(v)} values" for name, v in samples)
    return svg(title, summary, width, height, parts)


def bar_chart(rows: Sequence[tuple[str, float]], *, title: str, full: float = 0.0) -> Markup:
    """Horizontal bars, the label on the left and the value at the end; no value is negative.

    ``full``: the value of a bar of full length, for charts side by side; the largest value where that is larger.
    """
    width, step = 460, 23
    rows = [(label, value) for label, value in rows if _drawable(value)]
    if not rows:
        return svg_empty(title, width, 90)
    left = min(190.0, max(len(label) for label, _ in rows) * _BAR_CHAR + 10)
    right = width - max(len(number(v)) for _, v in rows) * _BAR_CHAR - 10
    largest = max(full, max(v for _, v in rows), 1e-12)
    parts = []
    for index, (label, value) in enumerate(rows):
        y = index * step + 4
        length = max(value, 0.0) / largest * (right - left)
        parts.append(svg_text(left - 8, y + 13, clipped(label, left - 8, _BAR_CHAR), "end", "lab"))
        parts.append(f'<rect class="f0" x="{left:.1f}" y="{y}" width="{length:.1f}" height="{step - 7}" rx="2"/>')
        parts.append(svg_text(left + length + 6, y + 13, number(value), "start", "val"))
    summary = "; ".join(f"{label}: {number(value)}" for label, value in rows)
    return svg(title, summary, width, len(rows) * step + 6, parts)


def funnel_chart(rows: Sequence[FunnelRow], *, title: str) -> Markup:
    """What is left after each reason: totals start at zero, each drop hangs where the one before it ended."""
    width, step = 460, 25
    whole = max((row.value for row in rows), default=0)
    if not whole:
        return svg_empty(title, width, 90)
    left = min(180.0, max(len(row.label) for row in rows) * _BAR_CHAR + 10)
    room = width - left - (max(len(number(row.value)) for row in rows) + 7) * _BAR_CHAR - 6
    remaining, parts = float(whole), []
    for index, row in enumerate(rows):
        y = index * step + 3
        start = 0.0
        if row.kind == "drop":
            remaining = max(0.0, remaining - row.value)
            start = remaining
        x, length = left + start / whole * room, max(1.5 if row.value else 0.0, row.value / whole * room)
        parts.append(svg_text(left - 8, y + 14, clipped(row.label, left - 8, _BAR_CHAR), "end", f"lab {row.kind}"))
        parts.append(
            f'<rect class="fun-{escape(row.kind)}" x="{x:.1f}" y="{y}" '
            f'width="{length:.1f}" height="{step - 7}" rx="2"/>'
        )
        share = f" · {row.value / whole:.0%}" if row.value != whole or index else ""
        sign = "−" if row.kind == "drop" else ""
        parts.append(svg_text(x + length + 6, y + 14, f"{sign}{number(row.value)}{share}", "start", "val"))
    summary = "; ".join(f"{row.label}: {row.value}" for row in rows)
    return svg(title, summary, width, len(rows) * step + 4, parts)


# -- pieces ------------------------------------------------------------------------------------------------


def _drawable(value: float) -> bool:
    """Finite, and not so large that the difference of two overflows."""
    return math.isfinite(value) and abs(value) < 1e100


def _finite(series: Series) -> list[tuple[float, float]]:
    return [(x, y) for x, y in series.points if _drawable(x) and _drawable(y)]


def _padded(low: float, high: float, share: float, *, zero: bool = False) -> tuple[float, float]:
    """The range with some air around it; never empty."""
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    span = high - low
    if span <= max(abs(low), abs(high)) * 1e-9 + 1e-100:
        pad = max(abs(high) * 0.1, 0.5)
        return low - pad, high + pad
    return low - (0 if zero and low == 0 else span * share), high + span * share


def _binned(values: Sequence[float], low: float, high: float, bins: int) -> list[int]:
    counts = [0] * bins
    for value in values:
        counts[min(bins - 1, max(0, int((value - low) / (high - low) * bins)))] += 1
    return counts


def _axes(frame: _Frame, x_label: str, *, whole: bool = False) -> str:
    parts = [
        f'<line class="axis" x1="{frame.left:.1f}" y1="{frame.bottom}" x2="{frame.right:.1f}" y2="{frame.bottom}"/>'
    ]
    rows = [t for t in ticks(frame.y_low, frame.y_high) if not whole or t == int(t)]
    for tick, label in zip(rows, tick_labels(rows), strict=True):
        y = frame.y(tick)
        parts.append(f'<line class="grid" x1="{frame.left:.1f}" y1="{y:.1f}" x2="{frame.right:.1f}" y2="{y:.1f}"/>')
        parts.append(svg_text(frame.left - 5, y + 4, label, "end", "tick"))
    columns = ticks(frame.x_low, frame.x_high, 6)
    for tick, label in zip(columns, tick_labels(columns), strict=True):
        parts.append(svg_text(frame.x(tick), frame.bottom + 14, label, "middle", "tick"))
    if x_label:
        parts.append(svg_text((frame.left + frame.right) / 2, frame.bottom + 29, x_label, "middle", "tick"))
    return "".join(parts)


def _line(series: Series, points: Sequence[tuple[float, float]], frame: _Frame, index: int) -> str:
    """The polyline, broken where a value is not finite, and a dot for each point when there are few."""
    dash = f' stroke-dasharray="{_DASHES[index % 6]}"' if _DASHES[index % 6] else ""
    path, pen = [], "M"
    for x, y in series.points:
        if _drawable(x) and _drawable(y):
            path.append(f"{pen}{frame.x(x):.1f} {frame.y(y):.1f}")
            pen = "L"
        else:
            pen = "M"
    line = f'<path class="l{index % 6}" d="{"".join(path)}"{dash}/>'
    dots = "".join(
        f'<circle class="f{index % 6}" cx="{frame.x(x):.1f}" cy="{frame.y(y):.1f}" r="2.3">'
        f"<title>{escape(series.name)}, {number(x)}: {number(y)}</title></circle>"
        for x, y in points
    )
    return line + (dots if len(points) <= _DOT_LIMIT else "")


def _band(series: Series, frame: _Frame, index: int) -> str:
    pairs = [
        (x, low, high)
        for (x, _), (low, high) in zip(series.points, series.band, strict=False)
        if _drawable(x) and _drawable(low) and _drawable(high)
    ]
    if len(pairs) < 2:
        return ""
    upper = [f"{frame.x(x):.1f} {frame.y(high):.1f}" for x, _, high in pairs]
    lower = [f"{frame.x(x):.1f} {frame.y(low):.1f}" for x, low, _ in reversed(pairs)]
    return f'<path class="band f{index % 6}" d="M{"L".join(upper + lower)}Z"/>'


def _end_labels(
    lasts: Sequence[tuple[int, tuple[float, float]]], frame: _Frame, y_format: Callable[[float], str]
) -> str:
    """The last value of every line, pushed apart where they would overlap."""
    placed: list[str] = []
    lowest = -math.inf
    for index, (x, y) in sorted(lasts, key=lambda item: frame.y(item[1][1])):
        at = max(frame.y(y) + 4, lowest + 12)
        lowest = at
        placed.append(svg_text(frame.x(x) + 6, at, y_format(y), "start", f"val t{index % 6}"))
    return "".join(placed)


def _legend(names: Sequence[str], left: float, *, dashed: bool = True) -> str:
    parts, x = [], left
    for index, name in enumerate(names):
        dash = f' stroke-dasharray="{_DASHES[index % 6]}"' if dashed and _DASHES[index % 6] else ""
        parts.append(f'<line class="l{index % 6}" x1="{x:.1f}" y1="10" x2="{x + 18:.1f}" y2="10"{dash}/>')
        parts.append(svg_text(x + 23, 14, name, "start", "lab"))
        x += 23 + len(name) * CHAR + 18
    return "".join(parts)


def _steps(heights: Sequence[int], frame: _Frame, index: int, *, fill: bool) -> str:
    """A histogram's outline, down to the axis at both ends."""
    size = (frame.x_high - frame.x_low) / len(heights)
    path = [f"M{frame.x(frame.x_low):.1f} {frame.y(0):.1f}"]
    for place, height in enumerate(heights):
        path.append(f"V{frame.y(height):.1f}H{frame.x(frame.x_low + (place + 1) * size):.1f}")
    path.append(f"V{frame.y(0):.1f}Z")
    shape = "".join(path)
    area = f'<path class="area f{index % 6}" d="{shape}"/>' if fill else ""
    return f'{area}<path class="l{index % 6} thin" d="{shape}"/>'


def _mark(value: float, text: str, frame: _Frame, row: int, rows: int) -> str:
    x, y = frame.x(value), frame.top - 14 * (rows - row) + 9
    anchor, shift = ("end", -5) if x > (frame.left + frame.right) / 2 else ("start", 5)
    line = f'<line class="mark" x1="{x:.1f}" y1="{y - 9:.1f}" x2="{x:.1f}" y2="{frame.bottom}"/>'
    return line + svg_text(x + shift, y, text, anchor, "val")
