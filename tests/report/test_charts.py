"""The charts promise: valid SVG for any values, escaped texts, and labels that state the values."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refine_af.report.charts import FunnelRow, Series, bar_chart, funnel_chart, histogram, line_chart
from refine_af.report.numbers import number, tick_labels, ticks

ANY_FLOAT = st.floats(allow_nan=True, allow_infinity=True)


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(svg).iter("text")]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(ANY_FLOAT, ANY_FLOAT), max_size=6), st.booleans())
def test_a_line_chart_survives_any_points(points: list[tuple[float, float]], zero: bool) -> None:
    svg = line_chart([Series("a", points, [(y, y) for _, y in points])], title="t", zero=zero)
    ET.fromstring(svg)
    assert '="nan' not in svg
    assert '="inf' not in svg


@settings(max_examples=25, deadline=None)
@given(st.lists(ANY_FLOAT, max_size=6), st.lists(ANY_FLOAT, max_size=3))
def test_a_histogram_survives_any_values(values: list[float], marks: list[float]) -> None:
    svg = histogram([("a", values), ("b", [])], title="t", marks=[(m, "m") for m in marks])
    ET.fromstring(svg)
    assert '="nan' not in svg
    assert '="inf' not in svg


@pytest.mark.parametrize(
    "svg",
    [
        line_chart([], title="empty"),
        line_chart([Series("a", [(1, math.nan)])], title="empty"),
        histogram([("a", [])], title="empty"),
        bar_chart([], title="empty"),
        funnel_chart([], title="empty"),
        funnel_chart([FunnelRow("read", 0, "total")], title="empty"),
    ],
)
def test_a_chart_without_values_says_so(svg: str) -> None:
    assert texts(svg) == ["no values"]


def test_one_point_is_drawn_and_labelled() -> None:
    svg = line_chart([Series("a", [(3, 0.25)])], title="t")
    assert "0.250" in texts(svg)
    assert svg.count("<circle") == 1


def test_a_gap_breaks_the_line() -> None:
    svg = line_chart([Series("a", [(1, 1.0), (2, math.nan), (3, 2.0), (4, 1.0)])], title="t")
    line = next(e for e in ET.fromstring(svg).iter("path") if e.get("class") == "l0")
    assert (line.get("d") or "").count("M") == 2


def test_several_lines_have_a_legend_and_last_values_that_do_not_overlap() -> None:
    svg = line_chart([Series(n, [(1, 1.0), (2, 2.0)]) for n in ("first", "second", "third")], title="t")
    assert {"first", "second", "third"} <= set(texts(svg))
    places = sorted(float(e.get("y", 0)) for e in ET.fromstring(svg).iter("text") if "val" in e.get("class", ""))
    assert all(b - a >= 11.9 for a, b in pairwise(places))


def test_titles_and_labels_are_escaped() -> None:
    svg = bar_chart([("<b>&", 1.0)], title='"><script>')
    assert "<script>" not in svg
    assert texts(svg)[0] == "<b>&"
    assert ET.fromstring(svg).find("title") is not None


def test_a_funnel_hangs_each_drop_where_the_one_before_it_ended() -> None:
    rows = [FunnelRow("read", 10, "total"), FunnelRow("a", 4), FunnelRow("b", 1), FunnelRow("kept", 5, "kept")]
    boxes = [
        (float(r.get("x", 0)), float(r.get("width", 0)))
        for r in ET.fromstring(funnel_chart(rows, title="t")).iter("rect")
    ]
    (left, whole), (a, a_wide), (b, b_wide), (kept, kept_wide) = boxes
    assert a + a_wide == pytest.approx(left + whole, abs=0.2)
    assert b + b_wide == pytest.approx(a, abs=0.2)
    assert (kept, kept + kept_wide) == pytest.approx((left, b), abs=0.2)


def test_bars_side_by_side_share_a_scale() -> None:
    widths = [
        float(next(ET.fromstring(bar_chart([("a", value)], title="t", full=4.0)).iter("rect")).get("width", 0))
        for value in (1.0, 4.0)
    ]
    assert widths[1] == pytest.approx(4 * widths[0], abs=0.3)


def test_a_histogram_counts_every_value_once() -> None:
    svg = histogram([("a", [1, 1, 2, 3])], title="t")
    assert "a: 4 values" in svg


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]), (-1, 1, ["−1.0", "−0.5", "0.0", "0.5", "1.0"]), (5, 5, ["5"])],
)
def test_ticks_are_round_and_written_alike(low: float, high: float, expected: list[str]) -> None:
    assert tick_labels(ticks(low, high)) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "–"),
        (math.nan, "–"),
        (0, "0"),
        (-0.1234, "−0.123"),
        (12345.6, "12,346"),
        (math.inf, "∞"),
        (22.14, "22.1"),
    ],
)
def test_numbers_read_well(value: float | None, expected: str) -> None:
    assert number(value) == expected
