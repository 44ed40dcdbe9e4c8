"""Shows what students of a run's candidates have learnt."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from refine_af.validation.choices import BEST, CHANCE, WORST
from refine_af.validation.validate import Validated


def render(found: Validated, console: Console) -> None:
    """The verdict, then each arm over chance."""
    console.print(Text(found.verdict))
    console.print(
        Text(
            f"{found.instructions} instructions, {found.candidates} candidates, {found.trainings} "
            f"training{'s' * (found.trainings > 1)} of each arm, {found.questions} references by people. Over chance, "
            "in nats, with 95 % intervals; won:lost. Below the line: nonsense in the style of chance's choice."
        )
    )
    table = Table("students of", "words", "margin", "content", "end", "loss (less is better)")
    table.add_row(CHANCE, f"{found.words[CHANCE]:.1f}", "0", "0", "0", "0")
    for name, one in found.gains.items():
        cells = [str(one["margin"]), str(one["content"]), f"{one['end'].mean:+.3f}", f"{one['loss'].mean:+.3f}"]
        table.add_row(name, f"{found.words[name]:.1f}", *cells, end_section=name == WORST)
    console.print(table)
    console.print(Text(f"{BEST}: chosen by {found.reward}; {WORST}: those that it would choose last."))
