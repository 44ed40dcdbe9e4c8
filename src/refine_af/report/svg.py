"""The pieces that every chart is made of: text, an empty chart, and the drawing around them, inline or as a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup, escape

CHAR = 6.1  # mean width of a character at the charts' font size


def svg_text(x: float, y: float, text: str, anchor: str, css: str) -> str:
    """A line of text; ``anchor`` is SVG's: start, middle or end."""
    return f'<text class="{escape(css)}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def clipped(text: str, room: float, char: float) -> str:
    """As much of the text as ``room`` holds of characters that are ``char`` wide."""
    most = max(4, int(room / char))
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def svg_empty(title: str, width: int, height: int) -> Markup:
    """A chart that says that it has no values."""
    return svg(title, "no values", width, height, [svg_text(width / 2, height / 2, "no values", "middle", "tick")])


def svg(title: str, summary: str, width: int, height: int, parts: Sequence[str], *, standalone: bool = False) -> Markup:
    """The drawing, for a page that has the charts' style; ``standalone``: for a file of its own, with that style in it.

    ``parts`` are made by this package; every text in them went through ``escape``.
    """
    label = f"<title>{escape(title)}</title><desc>{escape(summary)}</desc>"
    box = f'class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}"'
    if not standalone:
        return Markup(f"<svg {box}>{label}{''.join(parts)}</svg>")
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" {box}>'
    paper = f'<rect class="paper" width="{width}" height="{height}"/>'
    return Markup(f"{head}{label}<style>{_style()}</style>{paper}{''.join(parts)}</svg>\n")


def _style() -> str:
    """The page's colours and its rules for charts, and what a page gives a chart beside them."""
    # Late: jinja2 is needed only when a file is made.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    rules = environment.get_template("chart_style.html.j2").render()
    # Here, and not in the page's style: there the size follows the page.
    own = "svg.chart { max-width: 100%; height: auto; font-family: system-ui, sans-serif; }"
    return f"{rules}{own} .paper {{ fill: var(--paper); }}"
