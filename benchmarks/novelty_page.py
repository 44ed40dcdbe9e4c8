"""The page and the plot of benchmarks/novelty.py."""

from __future__ import annotations

from math import log10
from pathlib import Path
from typing import Any

from section import write_section


def write_page(found: dict[str, Any]) -> None:
    """Writes novelty.svg beside and the section between its marks in docs/benchmarks.md."""
    Path(__file__).with_name("novelty.svg").write_text(plot(found["growth"]), encoding="utf-8")
    write_section("novelty", "novelty.py", section(found))


def section(found: dict[str, Any]) -> str:
    real, rows, agreed = found["real"], found["growth"], found["agreement"]
    by = {row["pool"]: row for row in rows}
    lines = [
        f"Machine: {found['machine']}. One process. Threshold {found['threshold']}.",
        "",
        f"{real['pool']:,} real instructions, 1,000 others asked. Every fifth is also asked of rapidfuzz, every tenth",
        "of rouge-score, which scores a random 1,000 of the pool; its time is scaled to the whole.",
        "",
        "| a decision | median | mean | 90th percentile | times the index's, medians (means) |",
        "|---|---|---|---|---|",
        f"| `NoveltyIndex` | {cells(real['index_us'])} | |",
    ]
    for name, key in (
        ("rapidfuzz on every pair, length filter", "rapidfuzz"),
        ("rouge-score on every pair", "rouge_score"),
    ):
        times = real[f"times_{key}"]
        lines.append(f"| {name} | {cells(real[f'{key}_us'])} | {times['medians']:,.0f} ({times['means']:,.0f}) |")
    lines += [
        "",
        f"Deciding and keeping all {real['pool']:,} one after another took {real['extend_if_novel_s']:.0f} s; "
        f"{real['kept']:,} were novel.",
        "",
        "Pools made from the real instructions by recombination: the first part of one and the rest of another, cut at",
        "a random place; repeats are left in. *Before a new table*: a ninth more texts were added, which no table has",
        "yet. *Closest*: the median of `closest`, which knows no threshold. *Bytes*: arrays, vocabulary and the list",
        "of ids, which here are places; ids of the user's own and the texts come on top.",
        "",
        "| pool | median | mean | 90th percentile | times the median at a tenth | before a new table | closest | bytes "
        "an instruction | build |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        tenth = by.get(row["pool"] // 10)
        ratio = f"{row['index_us']['median'] / tenth['index_us']['median']:.1f}" if tenth else ""
        others = " | ".join(shown(row[name]["median"]) for name in ("index_before_a_new_table_us", "closest_us"))
        lines.append(
            f"| {row['pool']:,} | {cells(row['index_us'])} | {ratio} | {others} | "
            f"{row['bytes_an_instruction']:.0f} | {row['build_s']:.1f} s |"
        )
    lines += [
        "",
        f"The index of a run that goes on, rebuilt from its database of {found['rebuild']['pool']:,} instructions: "
        f"{found['rebuild']['seconds']} s.",
        "",
        "![Cost of a decision over the size of the pool](../benchmarks/novelty.svg)",
        "",
        "Pools made to be hard:",
        "",
        "| pool | texts | median | mean | 90th percentile |",
        "|---|---|---|---|---|",
        *(f"| {name} | {case['pool']:,} | {cells(case['index_us'])} |" for name, case in found["worst"].items()),
        "",
        f"Against `rouge-score` on {agreed['decisions']:,} random decisions over few words, {agreed['repeats']:,} of",
        f"them repeats, {agreed['with_a_score_at_the_threshold']:,} with a score exactly at the threshold: "
        f"{agreed['differing']} differ.",
    ]
    return "\n".join(lines)


def cells(times: dict[str, float]) -> str:
    return " | ".join(shown(times[name]) for name in ("median", "mean", "p90"))


def shown(us: float) -> str:
    if us < 1e3:
        return f"{us:.0f} µs"
    return f"{us / 1e3:.3g} ms" if us < 1e6 else f"{us / 1e6:.3g} s"


def plot(rows: list[dict[str, Any]]) -> str:
    """Medians and 90th percentiles over the pool's size, both axes logarithmic."""

    def x(pool: float) -> float:
        return 70 + 500 * (log10(pool) - 4) / 2

    def y(us: float) -> float:
        return 300 - 260 * (log10(us) - 1) / 4

    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 360" font-family="sans-serif" font-size="13">',
        '<rect width="640" height="360" fill="white"/>',
        '<text x="320" y="350" text-anchor="middle">instructions in the pool</text>',
        '<text x="70" y="24">time of a decision</text>',
    ]
    for us, label in ((10, "10 µs"), (100, "100 µs"), (1e3, "1 ms"), (1e4, "10 ms"), (1e5, "100 ms")):
        parts.append(f'<path d="M70 {y(us):.0f}H570" stroke="#ddd"/>')
        parts.append(f'<text x="62" y="{y(us) + 4:.0f}" text-anchor="end">{label}</text>')
    for pool in (10_000, 100_000, 1_000_000):
        parts.append(f'<text x="{x(pool):.0f}" y="322" text-anchor="middle">{pool:,}</text>')
    first = rows[0]
    lines = {
        "median": ("#1f5fa8", "", [row["index_us"]["median"] for row in rows]),
        "mean": ("#2e8b57", "", [row["index_us"]["mean"] for row in rows]),
        "90th percentile": ("#c0562b", "", [row["index_us"]["p90"] for row in rows]),
        "ten times as dear": (
            "#999",
            ' stroke-dasharray="5 4"',
            [first["index_us"]["median"] * row["pool"] / first["pool"] for row in rows],
        ),
    }
    for place, (name, (colour, dash, values)) in enumerate(lines.items()):
        points = " ".join(f"{x(row['pool']):.1f},{y(v):.1f}" for row, v in zip(rows, values, strict=True))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
        parts.append(f'<text x="90" y="{56 + 18 * place}" fill="{colour}">{name}</text>')
    return "\n".join([*parts, "</svg>", ""])
