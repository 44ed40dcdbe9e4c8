"""What a decision of the novelty index costs, against scoring every pair, by the size of the pool, and at its worst.

    python benchmarks/novelty.py [--data FILE] [--largest 1000000] [--checked 1000000]

Writes novelty.json and novelty.svg beside, and the table in docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy
import rapidfuzz
from rapidfuzz.distance import LCSseq
from rouge_score import rouge_scorer

from refine_af.novelty import NoveltyIndex, tokens
from refine_af.novelty.rouge import f_measure

ROOT = Path(__file__).resolve().parents[1]
THRESHOLD, REAL, QUESTIONS = 0.7, 70_000, 1_000


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--data", type=Path, default=ROOT.parent / "shared/data/instructions_open.jsonl.gz")
    arguments.add_argument("--largest", type=int, default=1_000_000, help="texts in the largest pool")
    arguments.add_argument("--checked", type=int, default=1_000_000, help="decisions to compare with rouge-score's")
    given = arguments.parse_args()
    if not given.data.is_file():
        sys.exit(f"{given.data} is not there; name the file of instructions with --data")
    with gzip.open(given.data, "rt", encoding="utf-8") as lines:
        texts = [json.loads(line)["instruction"] for line in lines]
    random.Random(0).shuffle(texts)
    found: dict[str, Any] = {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}, Python "
        f"{platform.python_version()}, numpy {numpy.__version__}, rapidfuzz {rapidfuzz.__version__}",
        "threshold": THRESHOLD,
    }
    for name, part in {
        "real": lambda: against_every_pair(texts),
        "growth": lambda: growth(texts, given.largest),
        "worst": lambda: worst_cases(texts),
        "agreement": lambda: agreement(given.checked),
    }.items():
        found[name] = part()
        print(name, json.dumps(found[name], indent=2), flush=True)
        Path(__file__).with_suffix(".json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    Path(__file__).with_suffix(".svg").write_text(plot(found["growth"]), encoding="utf-8")
    page = ROOT / "docs" / "benchmarks.md"
    page.write_text(with_section(page.read_text(encoding="utf-8"), section(found)), encoding="utf-8")


def seconds(ask: Callable[[str], object], questions: Sequence[str]) -> list[float]:
    """The time of each question."""
    times = []
    for question in questions:
        started = time.perf_counter()
        ask(question)
        times.append(time.perf_counter() - started)
    return times


def against_every_pair(texts: list[str]) -> dict[str, Any]:
    """Real instructions: the same questions to the index, to rapidfuzz on every pair, and to rouge-score."""
    pool, questions, others = texts[:REAL], texts[REAL : REAL + QUESTIONS], texts[REAL + QUESTIONS :]
    index = NoveltyIndex(THRESHOLD)
    started = time.perf_counter()
    index.add_many(pool)
    built = time.perf_counter() - started
    seconds(index.nearest, others[:QUESTIONS])  # the bounds of each length are computed when it is first met
    brute = BruteForce(pool)
    official = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)
    sample = random.Random(1).sample(pool, 1_000)
    ours, pairs, scripts = [], [], []
    for place, question in enumerate(questions):  # in turn, so that the machine's mood falls on all
        ours += seconds(index.nearest, [question])
        if place % 5 == 0:
            pairs += seconds(brute.nearest, [question])
        if place % 10 == 0:
            scored = seconds(lambda text: [official.score(other, text) for other in sample], [question])
            scripts.append(scored[0] * len(pool) / len(sample))
    assert [index.nearest(q) for q in questions[:100]] == [brute.nearest(q) for q in questions[:100]]
    one_by_one = NoveltyIndex(THRESHOLD)
    started = time.perf_counter()
    decided = one_by_one.extend_if_novel(pool)
    return {
        "pool": len(pool),
        "build_s": built,
        "index_us": in_us(ours),
        "rapidfuzz_us": in_us(pairs),
        "rouge_score_us": in_us(scripts),
        "times_rapidfuzz": {"medians": median(pairs) / median(ours), "means": mean(pairs) / mean(ours)},
        "times_rouge_score": {"medians": median(scripts) / median(ours), "means": mean(scripts) / mean(ours)},
        "extend_if_novel_s": time.perf_counter() - started,
        "kept": decided.count(None),
    }


class BruteForce:
    """Every text of a length that could reach the threshold, each by rapidfuzz's LCS."""

    def __init__(self, pool: list[str]) -> None:
        self.numbers: dict[str, int] = {}
        self.by_length: dict[int, list[tuple[int, list[int]]]] = {}
        for place, text in enumerate(pool):
            words = [self.numbers.setdefault(word, len(self.numbers)) for word in tokens(text)]
            self.by_length.setdefault(len(words), []).append((place, words))

    def nearest(self, text: str) -> tuple[float, str] | None:
        words = [self.numbers.get(word, -1) for word in tokens(text)]
        best, best_place = THRESHOLD, -1
        for length, rows in self.by_length.items():
            if f_measure(min(len(words), length), len(words), length) <= THRESHOLD:
                continue
            for place, other in rows:
                lcs = LCSseq.similarity(words, other)
                if 2 * lcs > (best - 1e-9) * (len(words) + length):
                    score = f_measure(lcs, len(words), length)
                    if score > best or (score == best and place < best_place):
                        best, best_place = score, place
        return None if best_place < 0 else (best, str(best_place))


def growth(texts: list[str], largest: int) -> list[dict[str, Any]]:
    """Pools of recombined instructions: the first share of one and the rest of another, cut at a random place."""
    choose = random.Random(2)
    words = [text.split() for text in texts]

    def recombined() -> str:
        one, other, cut = choose.choice(words), choose.choice(words), choose.random()
        return " ".join(one[: round(cut * len(one))] + other[round(cut * len(other)) :])

    questions = [recombined() for _ in range(2 * QUESTIONS)]
    pool = [recombined() for _ in range(largest + largest // 9)]
    rows = []
    for size in (s for s in (10_000, 31_623, 100_000, 316_228, 1_000_000) if s <= largest):
        index = NoveltyIndex(THRESHOLD)
        started = time.perf_counter()
        index.add_many(pool[:size])
        built = time.perf_counter() - started
        seconds(index.nearest, questions[:QUESTIONS])
        times = seconds(index.nearest, questions[QUESTIONS:])
        held = held_bytes(index)
        repeated = sum(index.nearest(q) is not None for q in questions[QUESTIONS:])
        # As many texts beside the table as there ever are before it is made anew.
        index.add_many(pool[size : size + size // 9])
        rows.append(
            {
                "pool": size,
                "build_s": built,
                "index_us": in_us(times),
                "index_before_a_new_table_us": in_us(seconds(index.nearest, questions[QUESTIONS:])),
                "bytes_an_instruction": held / size,
                "text_bytes_an_instruction": sum(len(t.encode()) for t in pool[:size]) / size,
                "questions_that_repeat": repeated / QUESTIONS,
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    return rows


def held_bytes(index: NoveltyIndex) -> int:
    """Arrays, vocabulary with its words, and the list of ids, which here are places."""
    vocabulary = index._elements
    return index.nbytes + sys.getsizeof(vocabulary) + sum(map(sys.getsizeof, vocabulary)) + sys.getsizeof(index._ids)


def worst_cases(texts: list[str]) -> dict[str, Any]:
    choose = random.Random(4)
    words = [word for text in texts for word in tokens(text)]

    def long() -> str:
        at = choose.randrange(len(words) - 2_000)
        return " ".join(words[at : at + 2_000])

    def changed(text: str, share: float) -> str:
        return " ".join(choose.choice(words) if choose.random() < share else word for word in text.split())

    def shuffled() -> str:
        return " ".join(choose.sample(list(bag), len(bag)))

    bag = tuple(dict.fromkeys(words))[:20]
    template = "Write a short story about {} for my little sister and her friends today"
    longs = [long() for _ in range(5_000)]
    cases: dict[str, tuple[list[str], list[str]]] = {
        "one template with a changed word": (
            [template.format(f"thing{i}") for i in range(50_000)],
            [template.format(f"other{i}") for i in range(100)],
        ),
        "texts of 2,000 tokens, a new one": (longs, [long() for _ in range(100)]),
        "texts of 2,000 tokens, one with a tenth of its words changed": (
            longs,
            [changed(text, 0.1) for text in longs[:100]],
        ),
        "one token, 1 to 2,000 times": (
            [" ".join(["spam"] * (1 + i % 2_000)) for i in range(10_000)],
            [" ".join(["spam"] * choose.randrange(1, 2_000)) for _ in range(100)],
        ),
        "the same 20 words in other orders": (
            [shuffled() for _ in range(20_000)],
            [shuffled() for _ in range(50)],
        ),
    }
    found = {}
    for name, (pool, questions) in cases.items():
        index = NoveltyIndex(THRESHOLD)
        index.add_many(pool)
        seconds(index.nearest, questions[:10])
        times = seconds(index.nearest, questions)
        found[name] = {"pool": len(pool), "index_us": in_us(times)}
    return found


def agreement(decisions: int) -> dict[str, int]:
    """Random texts of few words, so that ties and scores at the threshold are common, in tables from the start."""
    from refine_af.novelty import index as module

    usual = module._NEWEST
    module._NEWEST = 1
    choose = random.Random(5)
    official = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)
    vocabulary = ["a", "b", "c", "d", "e", "f"]
    thresholds = [0.4, 0.5, 0.6, 2 / 3, 0.7, 0.7, 0.7, 0.75, 0.8, 0.9]
    done = differing = at_threshold = above = 0
    while done < decisions:
        kinds, threshold = vocabulary[: choose.randint(1, 6)], choose.choice(thresholds)
        made = [" ".join(choose.choices(kinds, k=choose.randint(0, 11))) for _ in range(14)]
        pool, questions = made[:4], made[4:]
        index = NoveltyIndex(threshold)
        index.add_many(pool)
        for question in questions:
            scores = [official.score(text, question)["rougeL"].fmeasure for text in pool]
            best = max(scores)
            expected = (best, str(scores.index(best))) if best > threshold else None
            differing += index.nearest(question) != expected
            at_threshold += threshold in scores
            above += expected is not None
            done += 1
    module._NEWEST = usual
    return {"decisions": done, "differing": differing, "with_a_score_at_the_threshold": at_threshold, "repeats": above}


def in_us(times: list[float]) -> dict[str, float]:
    ordered = sorted(times)
    return {
        "median": round(1e6 * median(ordered), 1),
        "mean": round(1e6 * mean(ordered), 1),
        "p90": round(1e6 * ordered[int(0.9 * len(ordered))], 1),
        "largest": round(1e6 * ordered[-1], 1),
    }


def section(found: dict[str, Any]) -> str:
    real, rows, agreed = found["real"], found["growth"], found["agreement"]
    by = {row["pool"]: row for row in rows}
    lines = [
        f"Machine: {found['machine']}. One process. Threshold {found['threshold']}.",
        "",
        f"{real['pool']:,} real instructions, {QUESTIONS:,} others asked (of these every fifth to rapidfuzz, every tenth to",
        "rouge-score, which scores a sample of 1,000 texts, scaled to the pool):",
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
        "Pools of instructions made from the real ones by recombination (the first part of one and the rest of another,",
        "cut at a random place; repeats are left in). The last column but two has a ninth more texts that no table has yet:",
        "",
        "| pool | median | mean | 90th percentile | times the median at a tenth | median before a new table | bytes an "
        "instruction, text apart | build |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        tenth = by.get(row["pool"] // 10)
        ratio = f"{row['index_us']['median'] / tenth['index_us']['median']:.1f}" if tenth else ""
        lines.append(
            f"| {row['pool']:,} | {cells(row['index_us'])} | {ratio} | "
            f"{shown(row['index_before_a_new_table_us']['median'])} | {row['bytes_an_instruction']:.0f} | "
            f"{row['build_s']:.1f} s |"
        )
    lines += [
        "",
        "![Cost of a decision over the size of the pool](../benchmarks/novelty.svg)",
        "",
        "Pools made to be hard:",
        "",
        "| pool | texts | median | mean | 90th percentile |",
        "|---|---|---|---|---|",
        *(f"| {name} | {case['pool']:,} | {cells(case['index_us'])} |" for name, case in found["worst"].items()),
        "",
        f"Against `rouge-score` on {agreed['decisions']:,} random decisions over few words: {agreed['differing']} differ "
        f"({agreed['with_a_score_at_the_threshold']:,} had a score exactly at the threshold, {agreed['repeats']:,} were",
        "repeats).",
    ]
    return "\n".join(lines)


def cells(times: dict[str, float]) -> str:
    return " | ".join(shown(times[name]) for name in ("median", "mean", "p90"))


def shown(us: float) -> str:
    return (
        f"{us:.0f} µs"
        if us < 1e3
        else f"{us / 1e3:.2f} ms"
        if us < 1e4
        else f"{us / 1e3:,.0f} ms"
        if us < 1e6
        else f"{us / 1e6:.1f} s"
    )


def with_section(page: str, text: str) -> str:
    begin, end = "<!-- novelty: made by benchmarks/novelty.py -->", "<!-- novelty: end -->"
    if begin not in page:
        page = f"{page.rstrip()}\n\n## Novelty (`benchmarks/novelty.py`, `benchmarks/novelty.json`)\n\n{begin}\n{end}\n"
    before, _, rest = page.partition(begin)
    return f"{before}{begin}\n\n{text}\n\n{end}{rest.partition(end)[2]}"


def plot(rows: list[dict[str, Any]]) -> str:
    """Medians and 90th percentiles over the pool's size, both axes logarithmic."""
    from math import log10

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


if __name__ == "__main__":
    main()
