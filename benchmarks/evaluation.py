"""Evaluation on Super-NaturalInstructions: parity and speed of the metric, what sharing a task's beginning saves, and
the embedded model's zero-shot score.

    python benchmarks/evaluation.py [metric] [speed] [sharing] [score] [--tasks FILE] [--every 20] [--instances 10]

Without a part's name all four are done, one after another. Each adds its figures to evaluation.json beside when it is
done, and the section in docs/benchmarks.md is made of what is there. What is done of ``speed``, ``sharing`` and
``score`` stands in ``--work``, from where they go on.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
from feedback import machine
from section import write_section

from refine_af.config import SamplingConfig, load_config
from refine_af.engines.base import Prompts
from refine_af.evaluation.evaluate import Options, _groups, evaluate
from refine_af.evaluation.metrics import rouge_l
from refine_af.evaluation.significance import paired_difference
from refine_af.evaluation.subject import LocalSubject
from refine_af.evaluation.tasks import EvaluationTask, load_tasks
from refine_af.parts import Parts
from refine_af.progress import Lines
from refine_af.prompts.answers import Cut, cut_answer, scored_part
from refine_af.prompts.super_ni import Source

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).with_suffix(".json")
PARTS = ("metric", "speed", "sharing", "score")
PAIRS = 20_000
# Shots, instances of a task, how rare a task is among those of --every, and whether transformers is timed too.
CASES = ((0, 10, 1, True), (2, 10, 1, False), (0, 100, 2, False), (2, 100, 2, False))
CUTS: tuple[Cut, ...] = ("none", "first_line")
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
    arguments.add_argument("--every", type=int, default=20, help="speed is taken on every such task of the file")
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
        "sharing": sharing,
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


def speed(given: argparse.Namespace) -> dict[str, Any]:
    """Instances a second with a task's beginning shared and not, in int8, for each of ``CASES`` and cut; and whether in
    float32 the answers are the same."""
    given.work.mkdir(parents=True, exist_ok=True)
    journal = given.work / f"speed-{given.every}.jsonl"  # a row is a measurement of its own, so those there are kept
    rows = [json.loads(line) for line in journal.read_text().splitlines()] if journal.exists() else []
    with tempfile.TemporaryDirectory() as scratch:
        parts = Parts(load_config(overrides=["model.quantization=int8"]), Path(scratch))
        for shots, instances, every, plain in CASES:
            tasks = load_tasks(given.tasks, instances).tasks[:: every * given.every]
            for cut in CUTS:
                row = {"shots": shots, "of_a_task": instances, "cut": cut, "tasks": len(tasks)}
                if any(row.items() <= known.items() for known in rows):
                    continue
                rows.append(row | compared(parts, tasks, Options(shots=shots, cut=cut), plain=plain))
                with journal.open("a") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
                print(json.dumps(rows[-1]), flush=True)
        tasks = load_tasks(given.tasks, 5).tasks[::40]
        exact = Parts(load_config(overrides=["model.quantization=float32"]), Path(scratch))
        shared, whole = (answered(exact, tasks, Options(), share=share)[0] for share in (True, False))
    return {"rows": rows, "float32": len(shared), "float32_equal": sum(map(str.__eq__, shared, whole))}


def compared(parts: Parts, tasks: Sequence[EvaluationTask], options: Options, *, plain: bool) -> dict[str, Any]:
    parts.initial_engine.answers([["warm"] * 16], 2)  # the workers are made
    shared, shared_s = answered(parts, tasks, options, share=True)
    whole, whole_s = answered(parts, tasks, options, share=False)
    cut = [[cut_answer(text, options.cut) for text in texts] for texts in (shared, whole)]
    row = {
        "instances": len(shared),
        "shared_per_s": round(len(shared) / shared_s, 3),
        "not_shared_per_s": round(len(whole) / whole_s, 3),
        "times_not_shared": round(whole_s / shared_s, 2),
        "equal_answers": sum(map(str.__eq__, *cut)),
        "rouge_l_difference": round(score_of(tasks, cut[0]) - score_of(tasks, cut[1]), 3),
    }
    if plain:
        prompts = [prompt for group in prompt_groups(parts, tasks, options) for prompt in group][::4]  # it is slow
        started = time.perf_counter()
        by_transformers(parts, prompts, options.max_target)
        plain_s = (time.perf_counter() - started) * len(shared) / len(prompts)
        row |= {
            "transformers_per_s": round(len(shared) / plain_s, 3),
            "times_transformers": round(plain_s / shared_s, 2),
        }
    return row


def by_transformers(parts: Parts, prompts: Sequence[str], max_tokens: int) -> None:
    """Greedy answers as a user of `generate` gets them: batches of 8 by length, padded left, to the answers' ends."""
    tokenizer = parts.tokenizer
    tokenizer.padding_side = "left"
    ordered = sorted(prompts, key=len)
    for start in range(0, len(ordered), 8):
        batch = tokenizer(ordered[start : start + 8], return_tensors="pt", padding=True, add_special_tokens=False)
        parts.network.generate(**batch, max_new_tokens=max_tokens, do_sample=False, pad_token_id=tokenizer.pad_token_id)


def score_of(tasks: Sequence[EvaluationTask], texts: Sequence[str]) -> float:
    references = [one.references for task in tasks for one in task.instances]
    return fmean(map(rouge_l, texts, references))


def answered(
    parts: Parts, tasks: Sequence[EvaluationTask], options: Options, *, share: bool
) -> tuple[list[str], float]:
    """Every instance's answer, in the order of the tasks, and the seconds that all took."""
    groups, stop = prompt_groups(parts, tasks, options), scored_part(options.cut)
    ids = [id for group in source_groups(parts, tasks, options) for id in group]
    started = time.perf_counter()
    if share:
        made = [one for group in parts.initial_engine.answers(groups, options.max_target, stop) for one in group]
    else:
        prompts = Prompts("", tuple(prompt for group in groups for prompt in group))
        (made,) = parts.initial_engine.generate([prompts], greedy(options), seed=0, stop=stop)
    seconds = time.perf_counter() - started
    texts = {id: one.text for id, one in zip(ids, made, strict=True)}
    return [texts[one.id] for task in tasks for one in task.instances], seconds


def prompt_groups(parts: Parts, tasks: Sequence[EvaluationTask], options: Options) -> list[list[str]]:
    frame = LocalSubject(parts, None, "auto")._frame
    return [[frame.prompt(one.text) for one in group.values()] for group in source_groups(parts, tasks, options)]


def source_groups(parts: Parts, tasks: Sequence[EvaluationTask], options: Options) -> list[dict[str, Source]]:
    subject = LocalSubject(parts, None, "auto")
    return [group for task in tasks for group in _groups(task, subject, options)]


def greedy(options: Options) -> SamplingConfig:
    return SamplingConfig(max_tokens=options.max_target, temperature=0)


# -- scores --------------------------------------------------------------------------------------------


def sharing(given: argparse.Namespace) -> dict[str, Any]:
    """The total score in int8, uncut, on all tasks, with a task's beginning shared and without."""
    tasks = load_tasks(given.tasks, given.instances).tasks
    journal = given.work / f"not-shared-int8-{given.instances}.jsonl"
    evaluated(given, "none")
    kept = (evaluation_folder(given, "none") / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    shared = {row["id"]: row["prediction"] for row in map(json.loads, kept)}
    texts = [json.loads(line) for line in journal.read_text().splitlines()] if journal.exists() else []
    with tempfile.TemporaryDirectory() as scratch, journal.open("a") as file:
        parts = Parts(load_config(overrides=["model.quantization=int8"]), Path(scratch))
        for start in range(len(texts), len(tasks), 10):
            some = tasks[start : start + 10]
            made = iter(answered(parts, some, Options(), share=False)[0])
            texts += [[next(made) for _ in task.instances] for task in some]
            file.write("".join(json.dumps(row) + "\n" for row in texts[start:]))
            file.flush()
            print(f"sharing: {len(texts)} of {len(tasks)} tasks", flush=True)
    instances = [one for task in tasks for one in task.instances]
    answers = [[shared[one.id] for one in instances], [text for row in texts for text in row]]
    scores = [[rouge_l(text, one.references) for text, one in zip(some, instances, strict=True)] for some in answers]
    difference = paired_difference(scores[1], scores[0], seed=0)
    return {
        "instances": len(instances),
        "equal_answers": sum(a.strip() == b.strip() for a, b in zip(*answers, strict=True)),
        "shared": round(fmean(scores[0]), 3),
        "not_shared": round(fmean(scores[1]), 3),
        **{name: round(value, 3) for name, value in asdict(difference).items()},
    }


def score(given: argparse.Namespace) -> dict[str, Any]:
    """Zero-shot on all tasks, with each cutting rule; the interval is a bootstrap over tasks."""
    rows = {}
    for cut in ("none", "first_line"):
        started = time.perf_counter()
        found = evaluated(given, cut)
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


def evaluated(given: argparse.Namespace, cut: str) -> dict[str, Any]:
    config = load_config(overrides=["model.quantization=int8"])
    out = evaluation_folder(given, cut)
    given.work.mkdir(parents=True, exist_ok=True)
    options = Options(cut=cut, instances=given.instances)  # type: ignore[arg-type]
    return evaluate("embedded", given.tasks, out, config, options, Lines())


def evaluation_folder(given: argparse.Namespace, cut: str) -> Path:
    return Path(given.work) / f"int8-{cut}-{given.instances}"


# -- the page ------------------------------------------------------------------------------------------


def section(found: dict[str, Any]) -> str:
    lines = [
        "## Evaluation on Super-NaturalInstructions (`benchmarks/evaluation.py`, `benchmarks/evaluation.json`)",
        "",
        f"Machine: {found['machine']}. Greedy, 1,024 tokens of source, 128 of target, the model's chat template.",
    ]
    for name, write in (("score", score_lines), ("sharing", sharing_lines), ("speed", speed_lines)):
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


def sharing_lines(one: dict[str, Any]) -> list[str]:
    return [
        f"**Sharing in int8.** On the same {one['instances']:,} instances, uncut: {one['shared']:.2f} with a task's "
        f"beginning shared, {one['not_shared']:.2f} without: a difference of {one['mean']:+.2f}, 95 % interval over "
        f"instances {one['low']:+.2f} to {one['high']:+.2f}. {one['equal_answers']:,} answers are equal; the others "
        "part where another order of sums rounds an activation to another of int8's values."
    ]


def speed_lines(found: dict[str, Any]) -> list[str]:
    table = [
        "**Speed.** Instances a second in int8: a task's shared beginning computed once; the same engine with each",
        "prompt whole; transformers' generate in batches of 8, float32, not cut. Tasks",
        "spread evenly; ROUGE-L: what sharing changes in the score.",
        "",
        "| shots | of a task | cut | tasks | shared | not shared | times | transformers | times | equal | ROUGE-L |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one in found["rows"]:
        plain = (
            f"{one['transformers_per_s']:.2f} | {one['times_transformers']}" if "times_transformers" in one else " | "
        )
        table.append(
            f"| {one['shots']} | {one['of_a_task']} | {one['cut']} | {one['tasks']} | {one['shared_per_s']:.2f} | "
            f"{one['not_shared_per_s']:.2f} | {one['times_not_shared']} | {plain} | "
            f"{one['equal_answers']} of {one['instances']} | {one['rouge_l_difference']:+.2f} |"
        )
    equal = f"{found['float32_equal']} of {found['float32']}"
    return [*table, "", f"In float32 {equal} answers are the same, shared and not."]


if __name__ == "__main__":
    main()
