"""Evaluation on Super-NaturalInstructions: parity and speed of the metric, what sharing a task's beginning saves, and
the embedded model's zero-shot score.

    python benchmarks/evaluation.py [metric] [speed] [precision] [score] [--tasks FILE] [--every 8] [--instances 10]

Without a part's name all four are done, one after another. Each adds its figures to evaluation.json beside when it is
done, and the section in docs/benchmarks.md is made of what is there. The evaluations of the last two parts stand in
``--work`` and go on where they stopped.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
from feedback import machine
from section import write_section

from refine_af.config import SamplingConfig, load_config
from refine_af.engines.base import Prompts
from refine_af.engines.transformers import TransformersEngine
from refine_af.evaluation.evaluate import Options, _groups, evaluate
from refine_af.evaluation.metrics import rouge_l
from refine_af.evaluation.subject import LocalSubject
from refine_af.evaluation.tasks import EvaluationTask, load_tasks
from refine_af.parts import Parts
from refine_af.progress import Lines

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).with_suffix(".json")
PARTS = ("metric", "speed", "precision", "score")
PAIRS = 20_000
PUBLISHED = {
    "GPT-3 175B": 6.8,
    "T5-LM 11B": 25.7,
    "T0 11B": 33.1,
    "GPT-3 175B, tuned on its own Self-Instruct data": 39.9,
    "InstructGPT-001 175B": 40.8,
    "Tk-Instruct 11B": 46.0,
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("parts", nargs="*", help=", ".join(PARTS))
    arguments.add_argument("--tasks", type=Path, default=ROOT.parent / "shared/data/superni_test.jsonl.gz")
    arguments.add_argument("--every", type=int, default=8, help="speed is taken on every such task of the file")
    arguments.add_argument("--instances", type=int, default=10, help="of each task")
    arguments.add_argument("--pairs", type=int, default=PAIRS, help="pairs of texts that the metric is compared on")
    arguments.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "refine-af-evaluation")
    given = arguments.parse_args()
    if unknown := set(given.parts) - set(PARTS):
        sys.exit(f"no part named {', '.join(sorted(unknown))}; there are: {', '.join(PARTS)}")
    if not given.tasks.is_file():
        sys.exit(f"{given.tasks} is not there; name the file of tasks with --tasks")
    ways: dict[str, Callable[[argparse.Namespace], Any]] = {
        "metric": metric,
        "speed": speed,
        "precision": precision,
        "score": score,
    }
    for name in given.parts or PARTS:
        found = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
        found |= {"machine": machine(), name: ways[name](given)}
        RESULTS.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        print(name, json.dumps(found[name]), flush=True)
        write_section("evaluation", "evaluation.py", section(found))


# -- the metric ----------------------------------------------------------------------------------------


def metric(given: argparse.Namespace) -> dict[str, Any]:
    """Ours against `rouge-score` with its stemmer: half of the pairs real, half random words in random order."""
    from rouge_score import rouge_scorer

    official = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=True)
    pairs = text_pairs(load_tasks(given.tasks).tasks, given.pairs)
    started = time.process_time()
    ours = [rouge_l(a, [b]) for a, b in pairs]
    ours_s = time.process_time() - started
    started = time.process_time()
    theirs = [100 * float(official.score(b, a)["rougeL"].fmeasure) for a, b in pairs]
    theirs_s = time.process_time() - started
    return {
        "pairs": len(pairs),
        "greatest_difference": max(abs(a - b) for a, b in zip(ours, theirs, strict=True)),
        "ours_s": round(ours_s, 2),
        "rouge_score_s": round(theirs_s, 2),
        "times": round(theirs_s / ours_s, 1),
    }


def text_pairs(tasks: Sequence[EvaluationTask], count: int) -> list[tuple[str, str]]:
    chance = random.Random(0)
    texts = [(one.input, one.references[0]) for task in tasks for one in task.instances]
    words = sorted({word for text, _ in texts for word in text.split()})
    real = [chance.choice(texts) for _ in range(count // 2)]
    made = [
        tuple(" ".join(chance.choices(words, k=chance.randint(0, 40))) for _ in range(2)) for _ in range(count // 2)
    ]
    return [*real, *((a, b) for a, b in made)]


# -- speed ---------------------------------------------------------------------------------------------


def speed(given: argparse.Namespace) -> list[dict[str, Any]]:
    """Instances a second three ways, on every eighth task in the file's order, zero-shot and with two examples."""
    tasks = load_tasks(given.tasks, given.instances).tasks[:: given.every]
    rows = []
    for quantization in ("int8", "float32"):
        config = load_config(overrides=[f"model.quantization={quantization}"])
        with tempfile.TemporaryDirectory() as scratch:
            parts = Parts(config, Path(scratch))
            for shots in (0, 2):
                rows.append({"precision": quantization, "shots": shots, **three_ways(parts, tasks, shots)})
                print(json.dumps(rows[-1]), flush=True)
    return rows


def three_ways(parts: Parts, tasks: Sequence[EvaluationTask], shots: int) -> dict[str, Any]:
    subject, options = LocalSubject(parts, None, "auto"), Options(shots=shots)
    engine = parts.initial_engine
    groups = [
        [subject._frame.prompt(one.text) for one in group.values()]
        for task in tasks
        for group in _groups(task, subject, options)
    ]
    flat = tuple(prompt for group in groups for prompt in group)
    greedy = SamplingConfig(max_tokens=options.max_target, temperature=0)
    engine.answers([["warm"] * 16], 2)  # the workers are made
    seconds: dict[str, float] = {}
    started = time.perf_counter()
    shared = [one.text for group in engine.answers(groups, options.max_target) for one in group]
    seconds["shared"] = time.perf_counter() - started
    started = time.perf_counter()
    whole = [one.text for one in engine.generate(Prompts("", flat), greedy, seed=0)]
    seconds["not_shared"] = time.perf_counter() - started
    plain = TransformersEngine(parts.network, parts.tokenizer, model="plain", batch_size=8, adapter=False)
    some = flat[::4]  # it is slow; a quarter of the same instances says as much
    started = time.perf_counter()
    plain.generate(Prompts("", some), greedy, seed=0)
    seconds["transformers"] = (time.perf_counter() - started) * len(flat) / len(some)
    per_s = {f"{name}_per_s": round(len(flat) / value, 3) for name, value in seconds.items()}
    return {
        "tasks": len(tasks),
        "instances": len(flat),
        **per_s,
        "times_not_shared": round(seconds["not_shared"] / seconds["shared"], 2),
        "times_transformers": round(seconds["transformers"] / seconds["shared"], 2),
        "equal_answers": sum(a == b for a, b in zip(shared, whole, strict=True)),
    }


# -- scores --------------------------------------------------------------------------------------------


def precision(given: argparse.Namespace) -> dict[str, Any]:
    """The total score in int8 against that in float32, on all tasks."""
    found = {q: evaluated(given, q, "none")["rouge_l"] for q in ("int8", "float32")}
    return {**{q: round(v, 3) for q, v in found.items()}, "difference": round(found["int8"] - found["float32"], 3)}


def score(given: argparse.Namespace) -> dict[str, Any]:
    """Zero-shot on all tasks, with each cutting rule; the interval is a bootstrap over tasks."""
    rows = {}
    for cut in ("none", "first_line"):
        started = time.perf_counter()
        found = evaluated(given, "int8", cut)
        tasks = [task["rouge_l"] for task in found["tasks"].values()]
        drawn = np.random.default_rng(0).integers(0, len(tasks), (10_000, len(tasks)))
        low, high = np.percentile(np.asarray(tasks)[drawn].mean(axis=1), [2.5, 97.5])
        rows[cut] = {
            "rouge_l": round(found["rouge_l"], 2),
            "low": round(float(low), 2),
            "high": round(float(high), 2),
            "exact_match": round(found["exact_match"], 2),
            "median_task": round(median(tasks), 2),
            "mean_task": round(fmean(tasks), 2),
            "tasks": len(tasks),
            "instances": found["instances"],
            "seconds": round(time.perf_counter() - started),
        }
    return rows


def evaluated(given: argparse.Namespace, quantization: str, cut: str) -> dict[str, Any]:
    config = load_config(overrides=[f"model.quantization={quantization}"])
    out = given.work / f"{quantization}-{cut}-{given.instances}"
    given.work.mkdir(parents=True, exist_ok=True)
    options = Options(cut=cut, instances=given.instances)  # type: ignore[arg-type]
    return evaluate("embedded", given.tasks, out, config, options, Lines())


# -- the page ------------------------------------------------------------------------------------------


def section(found: dict[str, Any]) -> str:
    lines = [
        "## Evaluation on Super-NaturalInstructions (`benchmarks/evaluation.py`, `benchmarks/evaluation.json`)",
        "",
        f"Machine: {found['machine']}. Greedy, 1,024 tokens of source, 128 of target, the model's chat template.",
    ]
    for name, write in (("score", score_lines), ("precision", precision_lines), ("speed", speed_lines)):
        if name in found:
            lines += ["", *write(found[name])]
    if one := found.get("metric"):
        lines += [
            "",
            f"**Metric.** On {one['pairs']:,} pairs, half real and half random, ROUGE-L differs from `rouge-score` "
            f"with its stemmer by {one['greatest_difference']:.1e} at most, at {one['times']} times its speed "
            f"({one['ours_s']} s against {one['rouge_score_s']} s of CPU, from an empty memory of stems).",
        ]
    return "\n".join(lines)


def score_lines(rows: dict[str, Any]) -> list[str]:
    any_row = next(iter(rows.values()))
    table = [
        f"**Zero-shot, definition only.** The embedded model in int8 on {any_row['tasks']} tasks, "
        f"{any_row['instances']:,} instances; 95 % bootstrap interval over tasks.",
        "",
        "| model | answer cut | ROUGE-L | 95 % interval | exact match |",
        "|---|---|---|---|---|",
    ]
    for cut, one in rows.items():
        interval = f"{one['low']:.2f} to {one['high']:.2f}"
        table.append(
            f"| SmolLM2-135M-Instruct | {cut} | **{one['rouge_l']:.2f}** | {interval} | {one['exact_match']:.2f} |"
        )
    table += [f"| {name} (published) | | {value} | | |" for name, value in PUBLISHED.items()]
    return [
        *table,
        "",
        f"The evaluation took {any_row['seconds']} s (less where it was resumed). The published figures are of all 119",
        "tasks with up to 100 instances each and without a chat template; encoder-decoder models end an answer by",
        "themselves, and what cut the answers of GPT-3 is not said. So ours and the published rows are no one ranking.",
    ]


def precision_lines(one: dict[str, Any]) -> list[str]:
    return [
        f"**Precision.** The same in int8 {one['int8']:.2f}, in float32 {one['float32']:.2f}: "
        f"a difference of {one['difference']:+.2f}, uncut."
    ]


def speed_lines(rows: list[dict[str, Any]]) -> list[str]:
    table = [
        "**Speed.** Instances a second: a task's shared beginning computed once; the same engine with each prompt",
        f"whole; transformers' generate in batches of 8, float32. {rows[0]['tasks']} tasks, spread evenly.",
        "",
        "| precision | shots | shared | not shared | transformers | times not shared | times transformers | equal |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in rows:
        rates = " | ".join(f"{one[f'{name}_per_s']:.2f}" for name in ("shared", "not_shared", "transformers"))
        table.append(
            f"| {one['precision']} | {one['shots']} | {rates} | {one['times_not_shared']} | "
            f"{one['times_transformers']} | {one['equal_answers']} of {one['instances']} |"
        )
    return table


if __name__ == "__main__":
    main()
