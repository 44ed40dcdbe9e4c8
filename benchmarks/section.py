"""Puts a text that a script made into its place in docs/benchmarks.md or the README, between two marks."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
README = ROOT / "README.md"


def write_section(name: str, script: str, text: str, page: Path = PAGE) -> None:
    """Replaces what stands between the marks of ``name``; at the page's end where it has none yet."""
    begin, end = f"<!-- {name}: made by benchmarks/{script} -->", f"<!-- {name}: end -->"
    whole = page.read_text(encoding="utf-8")
    before, found, rest = whole.partition(begin)
    if not found:
        before, rest = f"{whole.rstrip()}\n\n", end + "\n"
    page.write_text(f"{before}{begin}\n\n{text}\n\n{end}{rest.partition(end)[2]}", encoding="utf-8")
