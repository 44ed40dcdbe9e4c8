"""How well the embedded reward tells people's pairs from spoilt ones, on tasks that it was not fitted on; its cost.

    python benchmarks/feedback.py [--data FILE] [--of-a-task 2] [--spoilt 60]

Writes feedback.json beside and the section in docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from statistics import mean, median
from typing import Any

from section import write_section
from spoiling import UNSEEN, genuine, spoilt

from refine_af.batching import alike
from refine_af.config import Config, ScorerConfig, load_config
from refine_af.engines.transformers import TransformersEngine
from refine_af.evaluation.ranking import auc
from refine_af.feedback.base import Example
from refine_af.feedback.catalogue import Workshop
from refine_af.feedback.composite import Composite
from refine_af.feedback.evaluator.corruptions import RULES
from refine_af.feedback.make import make_feedback
from refine_af.parts import Parts
from refine_af.seeds import shown_tasks
from refine_af.stages.context import calibration_pairs

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).with_suffix(".json")
# What asks whether an answer is right, and not whether it is one: reported, and left out of the mean of the others.
NOT_TO_BE_SEEN = ("negated",)
_TIMED = 48


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--data", type=Path, default=ROOT.parent / "shared/data/superni_train_small.jsonl.gz")
    arguments.add_argument("--of-a-task", type=int, default=2, help="pairs of each task")
    arguments.add_argument("--spoilt", type=int, default=60, help="spoilt pairs of each kind")
    given = arguments.parse_args()
    if not given.data.is_file():
        sys.exit(f"{given.data} is not there; name the file of tasks with --data")
    config = load_config()
    pairs = genuine(given.data, given.of_a_task)
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["REFINE_AF_CACHE"] = f"{scratch}/cache"  # an evaluator that is there already would not be trained
        parts = Parts(config, Path(scratch))
        _ = parts.initial_engine  # its conversion is no part of the evaluator's training
        shop = Workshop(parts, seeds(config))
        started = time.perf_counter()
        reward = make_feedback(shop)
        trained = time.perf_counter() - started
        found = {
            "machine": machine(),
            "pairs": len(pairs),
            "training_s": round(trained, 1),
            "kinds": by_kind(reward, pairs, given.spoilt),
            "throughput": throughput(shop, reward, pairs),
        }
    RESULTS.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=2))
    write_section("feedback", "feedback.py", section(found))


def machine() -> str:
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "transformers", "ctranslate2"))
    here = f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}"
    return f"{here}, Python {platform.python_version()}, {versions}"


def seeds(config: Config) -> list[Example]:
    return calibration_pairs(shown_tasks(config.seeds, config.seed), config)


def by_kind(reward: Composite, pairs: list[Example], count: int) -> dict[str, dict[str, Any]]:
    """For each kind of spoilt pairs: the areas under the ROC curve of the reward and of its parts, against all of
    people's pairs, and the share of spoilt ones below people's median."""
    people = reward.judge(pairs)
    middle = median(j.reward for j in people)
    kinds = {}
    for name, rule in {**RULES, **UNSEEN}.items():
        worse = reward.judge(spoilt(rule, pairs, count, seed=1))
        areas = {"reward": auc([j.reward for j in people], [j.reward for j in worse])}
        for part in people[0].shares:
            values = [j.shares[part] for j in worse if j.shares]
            areas[part] = auc([j.shares[part] for j in people], values)
        kinds[name] = {
            "pairs": len(worse),
            "trained_on": name in RULES,
            "auc": {k: round(v, 3) for k, v in areas.items() if k == "reward" or reward_weight(reward, k)},
            "below_median": round(mean(j.reward < middle for j in worse), 3),
        }
        print(name, json.dumps(kinds[name]), flush=True)
    return kinds


def reward_weight(reward: Composite, name: str) -> float:
    return sum(c.weight for c in reward.components if c.name == name)


def throughput(shop: Workshop, reward: Composite, pairs: list[Example]) -> dict[str, float]:
    """Pairs a second in one call, against one call a pair, and against a plain script: each scorer by itself, in
    transformers, a pair at a time."""
    chosen = pairs[:: max(1, len(pairs) // _TIMED)][:_TIMED]
    rates: dict[str, list[float]] = {"together": [], "one by one": [], "plain script": []}
    ways: dict[str, Callable[[Sequence[Example]], object]] = {
        "together": reward.judge,
        "one by one": lambda some: [reward.judge([e]) for e in some],
        "plain script": plain_script(shop),
    }
    for _ in range(3):  # in turn, so that the machine's mood falls on all
        for name, way in ways.items():
            some = chosen if name == "together" else chosen[:: 4 if name == "one by one" else 8]
            started = time.perf_counter()
            way(some)
            rates[name].append(len(some) / (time.perf_counter() - started))
    lengths = [len(shop.parts.tokenizer.encode(f"{e.prompt}\n{e.output}")) for e in pairs]
    padded = sum(len(batch) * max(lengths[i] for i in batch) for batch in alike(lengths, 8))
    return {
        **{f"{name.replace(' ', '_')}_per_s": round(median(values), 2) for name, values in rates.items()},
        "times_one_by_one": round(median(rates["together"]) / median(rates["one by one"]), 2),
        "times_plain_script": round(median(rates["together"]) / median(rates["plain script"]), 2),
        "padding_share": round(1 - sum(lengths) / padded, 3),
    }


def plain_script(shop: Workshop) -> Callable[[Sequence[Example]], object]:
    """Likelihood, mutual information and the evaluator as functions that know nothing of each other's passes."""
    from refine_af.feedback.embedding import Embedder
    from refine_af.feedback.evaluator.features import features
    from refine_af.feedback.likelihood import TaskLikelihood
    from refine_af.prompts.answers import scoring_frame

    parts = shop.parts
    engine = TransformersEngine(
        parts.network, parts.tokenizer, model="plain", ends=parts.ends, batch_size=1, adapter=False
    )
    frame = scoring_frame(parts.dialect)
    quality, embedder = shop.quality(ScorerConfig()), Embedder()

    def judge(some: Sequence[Example]) -> list[float]:
        rewards = []
        for example in some:
            likelihood = TaskLikelihood(engine, frame)([example])[0].likelihood
            pmi = TaskLikelihood(engine, frame)([example])[0].pmi
            seen = features([example], TaskLikelihood(engine, frame)([example]), embedder)
            rewards.append(likelihood + pmi + float(quality.head.score(seen)[0]))
        return rewards

    return judge


def section(found: dict[str, Any]) -> str:
    kinds, speed = found["kinds"], found["throughput"]
    parts = list(next(iter(kinds.values()))["auc"])
    lines = [
        "## The embedded reward (`benchmarks/feedback.py`, `benchmarks/feedback.json`)",
        "",
        f"Machine: {found['machine']}. Seed 0.",
        "",
        f"{found['pairs']} people's pairs of tasks of Super-NaturalInstructions that ask for a text of one's own",
        "(train split, two a task; nothing of it was trained on) against the same pairs spoilt. Area under the ROC",
        "curve of the reward and of each of its components alone; *below*: the share of spoilt pairs whose reward is",
        "below people's median.",
        "",
        f"| spoilt how | trained on | pairs | {' | '.join(parts)} | below |",
        f"|---|---|---|{'---|' * len(parts)}---|",
    ]
    for name, kind in sorted(kinds.items(), key=lambda item: (not item[1]["trained_on"], item[0])):
        areas = " | ".join(f"{kind['auc'][p]:.3f}" for p in parts)
        known = "yes" if kind["trained_on"] else "no"
        lines.append(f"| {name} | {known} | {kind['pairs']} | {areas} | {kind['below_median']:.0%} |")
    for label, chosen in (
        ("mean, trained on", [k for k in kinds.values() if k["trained_on"]]),
        ("mean, not trained on", [k for n, k in kinds.items() if not k["trained_on"] and n not in NOT_TO_BE_SEEN]),
    ):
        areas = " | ".join(f"**{mean(k['auc'][p] for k in chosen):.3f}**" for p in parts)
        lines.append(f"| **{label}** | | | {areas} | {mean(k['below_median'] for k in chosen):.0%} |")
    return "\n".join(
        [
            *lines,
            "",
            "*Negated* answers are wrong in fluent English; a model of this size does not notice, and they are left",
            "out of the mean.",
            "",
            f"The evaluator was trained in {found['training_s']:.0f} s, once; after that it comes out of the cache.",
            "",
            "| scoring | pairs a second |",
            "|---|---|",
            f"| in one call | {speed['together_per_s']} |",
            f"| the same reward, a call a pair | {speed['one_by_one_per_s']} (one call: "
            f"{speed['times_one_by_one']} times as many) |",
            "| a plain script: transformers in float32, each scorer its own passes, a pair at a time | "
            f"{speed['plain_script_per_s']} (one call: {speed['times_plain_script']} times as many) |",
            "",
            f"Likelihoods are read without padding. Of models that need batches, {speed['padding_share']:.1%} of the "
            "tokens would be padding.",
        ]
    )


if __name__ == "__main__":
    main()
