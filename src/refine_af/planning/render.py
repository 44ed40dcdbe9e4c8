"""A plan as tables for people: the stages, where the time goes, what fills the memory and the disk, what
was assumed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from refine_af.console import mark
from refine_af.planning.hardware import Hardware
from refine_af.planning.memory import Part
from refine_af.planning.plan import Plan, StagePlan
from refine_af.planning.units import count, duration, gigabytes


def render(plan: Plan, refused: Mapping[str, str], console: Console) -> None:
    """Prints the plan, and by its check's name what would be refused before a run; lines wrap at the console's width,
    nothing is cut off."""
    size = f", {count(plan.facts.parameters)} parameters ({plan.facts.source})" if plan.facts else ""
    name = plan.model if plan.facts is None or plan.model != "embedded" else f"embedded ({plan.facts.name})"
    console.print(Text.assemble(("Plan", "bold"), f" for {name}{size}"))
    console.print(Text(f"Times and memory are estimates for {plan.reference}."))
    if plan.problem:
        console.print(Text(plan.problem, style="yellow"))
    _say(console, "What would run", [(Text(stage.name), stage.words) for stage in plan.stages])
    console.print(_stages(plan))
    apart = plan.validation
    console.print(Text(f"\nApart from the run, refine-af {apart.name}: {apart.words}; {_hours(apart.hours)}."))
    if plan.facts is not None:
        console.print(_times(plan.stages))
        console.print(_memory(plan.stages))
    console.print(_disk(plan))
    findings = [(mark(finding.ok), finding.text) for finding in plan.fit.findings]
    _say(console, f"This machine ({_machine(plan.hardware)})", findings)
    if refused:
        _say(
            console, "A run would be refused now", [(mark(False), f"{name}: {said}") for name, said in refused.items()]
        )
    _say(console, "Assumptions", [(Text("•"), sentence) for sentence in plan.assumptions])


def _stages(plan: Plan) -> Table:
    table = _table(f"Stages (disk: {gigabytes(plan.disk_gb)})")
    table.add_column("stage", no_wrap=True)
    for heading in ("prompt\ntokens", "completion\ntokens", "trained\ntokens", "time", "peak\nmemory"):
        table.add_column(heading, justify="right", no_wrap=True)
    for stage in plan.stages:
        table.add_row(
            stage.name,
            _count(stage.prompt_tokens),
            _count(stage.completion_tokens),
            _count(stage.trained_tokens),
            _hours(stage.hours),
            _size(stage.memory_gb),
        )
    table.add_section()
    table.add_row(
        "total",
        *(
            _count(sum(getattr(stage, name) for stage in plan.stages))
            for name in ("prompt_tokens", "completion_tokens", "trained_tokens")
        ),
        _hours(plan.hours),
        _size(plan.peak_memory_gb),
        style="bold",
    )
    return table


def _times(stages: Iterable[StagePlan]) -> Table:
    table = _table("Where the time goes")
    table.add_column("stage", no_wrap=True)
    table.add_column("work", width=24, overflow="fold")
    table.add_column("time", justify="right", no_wrap=True)
    table.add_column("arithmetic", ratio=1, overflow="fold")
    for stage in stages:
        pieces = [piece for piece in stage.pieces if piece.seconds]
        for i, piece in enumerate(pieces):
            name = stage.name if i == 0 else ""
            last = i == len(pieces) - 1
            time = duration(piece.seconds or 0.0)
            table.add_row(name, Text(piece.name), time, Text(piece.formula), end_section=last)
    return table


def _memory(stages: Iterable[StagePlan]) -> Table:
    table = _table("Memory at each stage's peak")
    table.add_column("stage", no_wrap=True)
    _part_columns(table)
    for stage in stages:
        for i, part in enumerate(stage.memory if stage.pieces else ()):
            last = i == len(stage.memory) - 1
            table.add_row(stage.name if i == 0 else "", *_part_cells(part), end_section=last)
    return table


def _disk(plan: Plan) -> Table:
    table = _table("Disk")
    _part_columns(table)
    for part in plan.disk:
        table.add_row(*_part_cells(part))
    return table


def _part_columns(table: Table) -> None:
    table.add_column("what", width=24, overflow="fold")
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("arithmetic", ratio=1, overflow="fold")


def _part_cells(part: Part) -> tuple[Text, str, Text]:
    return Text(part.name), gigabytes(part.gb), Text(part.formula)


def _table(title: str) -> Table:
    return Table(
        title=f"\n{title}",
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        expand=True,
    )


def _say(console: Console, heading: str, sentences: Iterable[tuple[Text, str]]) -> None:
    """Sentences under a heading, each with its mark and a hanging indent."""
    console.print(Text(f"\n{heading}", style="bold"))
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for sign, sentence in sentences:
        grid.add_row(sign, Text(sentence))
    console.print(grid)


def _machine(hardware: Hardware) -> str:
    memory = gigabytes(hardware.memory_gb) if hardware.memory_gb is not None else "unknown"
    gpu = hardware.best_gpu
    shown = f"{gpu.name} with {gigabytes(gpu.memory_gb)}" if gpu is not None else "no GPU"
    return f"{hardware.cores} cores, {memory} of memory, {shown}"


def _count(tokens: int) -> str:
    return count(tokens) if tokens else "–"


def _hours(hours: float | None) -> str:
    if hours is None:
        return "?"
    return duration(hours * 3600) if hours else "–"


def _size(gb: float | None) -> str:
    return "?" if gb is None else gigabytes(gb)
