"""A run's status for people."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from refine_af.console import plain_console


def render_status(found: dict[str, Any], console: Console | None = None) -> None:
    """Prints what :func:`refine_af.run.run_status` found."""
    console = console or plain_console()
    table = Table("stage", "status", "read", "kept", "rejected, by reason", box=None, header_style="bold")
    for name, stage in found["stages"].items():
        counts = stage["counts"]
        reasons = ", ".join(f"{reason} {n}" for reason, n in stage["rejected"].items())
        read, kept = (str(counts.get(k)) if counts.get(k) is not None else "" for k in ("read", "kept"))
        table.add_row(name, stage["status"], read, kept, reasons)
    console.print(table)
    made = found["instances"]
    best_of_n = f", {made['best_of_n']} for best-of-n" if made["best_of_n"] else ""
    console.print(
        f"\n{found['instructions']} instructions; {made['tuned']} pairs by the tuned policy, {made['initial']} by the "
        f"initial one{best_of_n}; {found['selected']} selected"
    )
    if found["reward"]:
        curve = "  ".join(f"{value:+.2f}" for value in found["reward"].values())
        console.print(f"reward by iteration: {curve}")
