"""What a decision of the novelty index costs, against scoring every pair, by the size of the pool, and at its worst.

    python benchmarks/novelty.py [--data FILE] [--largest 1000000] [--checked 1000000] [--only PART ...]

Writes novelty.json and novelty.svg beside, and the tables in docs/benchmarks.md (`novelty_page.py`).
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy
import rapidfuzz
from novelty_page import write_page
from rapidfuzz.distance import LCSseq
from rouge_score import rouge_scorer

from refine_af.language import ENGLISH
from refine_af.novelty import NoveltyIndex, tokens
from refine_af.novelty.rouge import f_measure
from refine_af.records import Instruction
from refine_af.stages.instructions import novelty_index
from refine_af.store import Store

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).with_suffix(".json")
PARTS = ("real", "growth", "rebuild", "worst", "agreement")
THRESHOLD, REAL, QUESTIONS = 0.7, 70_000, 1_000


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--data", type=Path, default=ROOT.parent / "shared/data/instructions_open.jsonl.gz")
    arguments.add_argument("--largest", type=int, default=1_000_000, help="texts in the largest pool")
    arguments.add_argument("--checked", type=int, default=1_000_000, help="decisions to compare with rouge-score's")
    arguments.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to measure anew")
    given = arguments.parse_args()
    if not given.data.is_file():
        sys.exit(f"{given.data} is not there; name the file of instructions with --data")
    with gzip.open(given.data, "rt", encoding="utf-8") as lines:
        texts = [json.loads(line)["instruction"] for line in lines]
    random.Random(0).shuffle(texts)
    parts = {
        "real": lambda: against_every_pair(texts),
        "growth": lambda: growth(texts, given.largest),
        "rebuild": lambda: rebuild(texts, given.largest),
        "worst": lambda: worst_cases(texts),
        "agreement": lambda: agreement(given.checked),
    }
    for name in given.only:
        part = parts[name]()
        found = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
        found |= {
            "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}, Python "
            f"{platform.python_version()}, numpy {numpy.__version__}, rapidfuzz {rapidfuzz.__version__}",
            "threshold": THRESHOLD,
            name: part,
        }
        print(name, json.dumps(part, indent=2), flush=True)
        RESULTS.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    if all(name in found for name in PARTS):
        write_page(found)


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
    for at in range(0, QUESTIONS, 100):  # in turn, so that the machine's mood falls on all
        asked = questions[at : at + 100]
        ours += seconds(index.nearest, asked)
        pairs += seconds(brute.nearest, asked[::5])
        scored = seconds(lambda text: [official.score(other, text) for other in sample], asked[::10])
        scripts += [s * len(pool) / len(sample) for s in scored]
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


def recombinations(texts: list[str], count: int) -> list[str]:
    """The first share of one text and the rest of another, cut at a random place."""
    choose = random.Random(2)
    words = [text.split() for text in texts]

    def recombined() -> str:
        one, other, cut = choose.choice(words), choose.choice(words), choose.random()
        return " ".join(one[: round(cut * len(one))] + other[round(cut * len(other)) :])

    return [recombined() for _ in range(count)]


def growth(texts: list[str], largest: int) -> list[dict[str, Any]]:
    """Pools of recombined instructions."""
    made = recombinations(texts, 2 * QUESTIONS + largest + largest // 9)
    questions, pool = made[: 2 * QUESTIONS], made[2 * QUESTIONS :]
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
                "closest_us": in_us(seconds(index.closest, questions[QUESTIONS : QUESTIONS + 50])),
                "bytes_an_instruction": held / size,
                "text_bytes_an_instruction": sum(len(t.encode()) for t in pool[:size]) / size,
                "questions_that_repeat": repeated / QUESTIONS,
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    return rows


def rebuild(texts: list[str], size: int) -> dict[str, float]:
    """The index of a run that goes on, from its database."""
    pool = recombinations(texts, size)
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "run.db") as store:
        store.add_instructions(
            Instruction(f"{i:016x}", text, None, None, "generated", i // 1000, "a model", (), None, None, "kept")
            for i, text in enumerate(pool)
        )
        started = time.perf_counter()
        index = novelty_index(store, THRESHOLD, ENGLISH)
        return {"pool": len(index), "seconds": round(time.perf_counter() - started, 2)}


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
    """Random texts of few words, so that ties and scores at the threshold are common.

    Read at once and in tables from the start, as texts are in a large pool.
    """
    from refine_af.novelty import index as module

    usual = module._NEWEST, module._FEW, module._FIRST, module._MANY
    module._NEWEST, module._FEW, module._FIRST, module._MANY = 1, 1, 2, 1
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
    module._NEWEST, module._FEW, module._FIRST, module._MANY = usual
    return {"decisions": done, "differing": differing, "with_a_score_at_the_threshold": at_threshold, "repeats": above}


def in_us(times: list[float]) -> dict[str, float]:
    ordered = sorted(times)
    return {
        "median": round(1e6 * median(ordered), 1),
        "mean": round(1e6 * mean(ordered), 1),
        "p90": round(1e6 * ordered[int(0.9 * len(ordered))], 1),
        "largest": round(1e6 * ordered[-1], 1),
    }


if __name__ == "__main__":
    main()
