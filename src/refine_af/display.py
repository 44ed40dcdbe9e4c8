"""The live display in a terminal: stage, bar, rate, time left, and the figures that the stage reports."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from refine_af.console import plain_console
from refine_af.progress import _Clock, duration


class LiveDisplay:
    """Finished stages scroll up as lines; the one at work stays at the bottom."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or plain_console(stderr=True)
        self._bars = Bars(
            SpinnerColumn(),
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}", markup=False),
            TimeRemainingColumn(),
            console=self._console,
        )
        self._details: Mapping[str, str] = {}
        self._live = Live(console=self._console, get_renderable=self._render, refresh_per_second=4, transient=True)
        self._stage, self._unit = "", ""
        self._clock = _Clock(None, 0)

    def __enter__(self) -> LiveDisplay:
        self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._live.stop()

    def _render(self) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        for name, value in self._details.items():
            table.add_row(Text(f"   {name}", style="dim"), Text(value))
        return Group(self._bars, table)

    def note(self, text: str) -> None:
        self._console.print(Text(text))

    def begin(self, stage: str, total: int | None, unit: str, done: int = 0) -> None:
        self._stage, self._unit, self._details = stage, unit, {}
        self._clock = _Clock(total, done)
        for task in list(self._bars.task_ids):
            self._bars.remove_task(task)
        self._task = self._bars.add_task(stage, total=total, completed=done, rate="")

    def update(self, done: int, details: Mapping[str, str] | None = None) -> None:
        self._clock.done = done
        rate = self._clock.figures(self._unit).split(", ")[1:2]
        self._bars.update(self._task, completed=done, rate=rate[0] if rate else "")
        if details is not None:
            self._details = details

    def end(self, summary: str) -> None:
        for task in list(self._bars.task_ids):
            self._bars.remove_task(task)
        self._details = {}
        took = f"({duration(self._clock.seconds)})"
        self._console.print(Text.assemble(("✓ ", "green"), (self._stage, "bold"), f" {summary} ", (took, "dim")))
