"""Puts a text that a script made into its place in docs/benchmarks.md, between two marks."""

from __future__ import annotations

from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"


def write_section(name: str, script: str, text: str) -> None:
    """Replaces what stands between the marks of ``name``; at the page's end where it has none yet."""
    begin, end = f"<!-- {name}: made by benchmarks/{script} -->", f"<!-- {name}: end -->"
    page = PAGE.read_text(encoding="utf-8")
    before, found, rest = page.partition(begin)
    if not found:
        before, rest = f"{page.rstrip()}\n\n", end + "\n"
    PAGE.write_text(f"{before}{begin}\n\n{text}\n\n{end}{rest.partition(end)[2]}", encoding="utf-8")
