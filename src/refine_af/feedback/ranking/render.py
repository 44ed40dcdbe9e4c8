"""What `refine-af score-pairs` prints for people: a table of components, then the pairs at both ends."""

from __future__ import annotations

import statistics

from rich.console import Console
from rich.table import Table
from rich.text import Text

from refine_af.feedback.ranking.rank import REST, Ranked
from refine_af.report.numbers import number, signed
from refine_af.report.wording import clean

_LONGEST = 240  # characters of a text that are shown


def render(ranked: Ranked, name: str, show: int, console: Console) -> None:
    """Prints the table, the ``show`` best pairs and the ``show`` worst ones; a pair is never shown twice."""
    mean = statistics.fmean(ranked.rewards)
    count = f"{len(ranked.rows):,} pair{'s' * (len(ranked.rows) != 1)}"
    console.print(f"{count}, mean reward {number(mean)} by {name}\n")
    console.print(_table(ranked))
    order = ranked.order()
    show = min(show, len(order))
    best, worst = order[:show], [i for i in order[-show:][::-1] if i not in order[:show]] if show else []
    for title, places in (("Best", best), ("Worst", worst)):
        if places:
            console.print(Text(f"\n{title}", style="bold"))
        for place in places:
            _print_pair(ranked, place, console)


def _table(ranked: Ranked) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("component", overflow="fold")
    for title in ("mean", "spread", "weight", "adds", "of variance", "correlation"):
        table.add_column(title, justify="right", no_wrap=True)
    for name, share in ranked.shares().items():
        cells = [number(share.mean), number(share.spread), number(share.weight), signed(share.contribution)]
        table.add_row(clean(name), *cells, _percent(share.variance), _two_places(share.correlation))
    added, variance = ranked.rest()
    if abs(added) > 1e-9 or (variance is not None and abs(variance) > 1e-9):
        table.add_row(REST, "", "", "", signed(added), _percent(variance), "", style="dim")
    return table


def _percent(share: float | None) -> str:
    return number(None) if share is None else f"{share:.0%}".replace("-", "−")


def _two_places(value: float | None) -> str:
    return number(None) if value is None else f"{value:+.2f}".replace("-", "−")


def _print_pair(ranked: Ranked, place: int, console: Console) -> None:
    row, judgement = ranked.rows[place], ranked.judgements[place]
    values = "  ".join(f"{name} {number(value)}" for name, value in judgement.components.items())
    head = Text(f"{signed(judgement.reward)}", style="bold")
    head.append(f"  line {row.line}", style="dim")
    head.append(f"  {clean(values)}", style="dim")
    console.print(head)
    texts = (("instruction", row.example.instruction), ("input", row.example.input), ("output", row.example.output))
    for label, text in texts:
        if text or label == "output":
            console.print(Text(f"  {label}: ", style="dim").append(_short(text) or "(empty)", style="not dim"))


def _short(text: str) -> str:
    line = " ".join(clean(text).split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"
