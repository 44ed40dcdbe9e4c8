"""How well the embedded reward tells people's pairs from pairs spoilt by rule, of tasks that it knows nothing of.

    python benchmarks/feedback.py [--data FILE] [--of-a-task 1] [--spoilt 40]

Telling them is no aim by itself: benchmarks/reward_validity.py asks what choosing by a reward brings. Writes
feedback.json beside and the section in docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from statistics import mean, median
from typing import Any

from corruptions import RULES
from section import write_section
from spoiling import UNSEEN, genuine, spoilt

from refine_af.config import Config, load_config
from refine_af.feedback.base import Example
from refine_af.feedback.catalogue import Workshop
from refine_af.feedback.composite import Composite
from refine_af.feedback.make import make_feedback
from refine_af.parts import Parts
from refine_af.seeds import shown_tasks
from refine_af.stages.context import calibration_pairs

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).with_suffix(".json")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--data", type=Path, default=ROOT.parent / "shared/data/superni_train_small.jsonl.gz")
    arguments.add_argument("--of-a-task", type=int, default=1, help="pairs of each task")
    arguments.add_argument("--spoilt", type=int, default=40, help="spoilt pairs of each kind")
    given = arguments.parse_args()
    if not given.data.is_file():
        sys.exit(f"{given.data} is not there; name the file of tasks with --data")
    config = load_config()
    pairs = genuine(given.data, given.of_a_task)
    with tempfile.TemporaryDirectory() as scratch:
        parts = Parts(config, Path(scratch))
        _ = parts.network  # the model's preparation is no part of the reward's
        os.environ["REFINE_AF_CACHE"] = f"{scratch}/cache"  # gradients that are there already would not be taken
        started = time.perf_counter()
        reward = make_feedback(Workshop(parts, seeds(config)))
        prepared = time.perf_counter() - started
        kinds = by_kind(reward, pairs, given.spoilt)
    found = {"machine": machine(), "pairs": len(pairs), "prepared_s": round(prepared, 1), "kinds": kinds}
    RESULTS.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=2))
    write_section("feedback", "feedback.py", section(found))


def machine() -> str:
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "transformers", "ctranslate2"))
    here = f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}"
    return f"{here}, Python {platform.python_version()}, {versions}"


def seeds(config: Config) -> list[Example]:
    return calibration_pairs(shown_tasks(config.seeds, config.seed), config)


def auc(better: list[float], worse: list[float]) -> float:
    """How often one of the better scores above one of the worse, ties half: 0 to 1."""
    return mean(1.0 if b > w else 0.5 if b == w else 0.0 for b in better for w in worse)


def by_kind(reward: Composite, pairs: list[Example], count: int) -> dict[str, dict[str, Any]]:
    """For each kind of spoilt pairs: the areas under the ROC curve of the reward and of its parts, against all of
    people's pairs, and the share of spoilt ones below people's median."""
    people = reward.judge(pairs)
    middle = median(j.reward for j in people)
    kinds = {}
    for name, rule in {**RULES, **UNSEEN}.items():
        worse = reward.judge(spoilt(rule, pairs, count, seed=1))
        areas = {"reward": auc([j.reward for j in people], [j.reward for j in worse])}
        for part in (component.name for component in reward.components):
            values = [j.shares[part] for j in worse if j.shares]
            areas[part] = auc([j.shares[part] for j in people], values)
        kinds[name] = {
            "pairs": len(worse),
            "auc": {k: round(v, 3) for k, v in areas.items()},
            "below_median": round(mean(j.reward < middle for j in worse), 3),
        }
        print(name, json.dumps(kinds[name]), flush=True)
    return kinds


def section(found: dict[str, Any]) -> str:
    kinds = found["kinds"]
    parts = list(next(iter(kinds.values()))["auc"])
    lines = [
        "## What the embedded reward sees (`benchmarks/feedback.py`, `benchmarks/feedback.json`)",
        "",
        f"Machine: {found['machine']}. Seed 0.",
        "",
        f"{found['pairs']} people's pairs of tasks of Super-NaturalInstructions that ask for a text of one's own",
        "(train split; nothing of it is known to the reward) against the same pairs spoilt. Area under the ROC curve",
        "of the reward and of each of its components alone; *below*: the share of spoilt pairs whose reward is below",
        "people's median.",
        "",
        f"| spoilt how | pairs | {' | '.join(parts)} | below |",
        f"|---|---|{'---|' * len(parts)}---|",
    ]
    for name, kind in sorted(kinds.items()):
        areas = " | ".join(f"{kind['auc'][p]:.3f}" for p in parts)
        lines.append(f"| {name} | {kind['pairs']} | {areas} | {kind['below_median']:.0%} |")
    areas = " | ".join(f"**{mean(k['auc'][p] for k in kinds.values()):.3f}**" for p in parts)
    lines.append(f"| **mean** | | {areas} | {mean(k['below_median'] for k in kinds.values()):.0%} |")
    ready = f"From an empty cache, the model prepared, the reward was ready in {found['prepared_s']:.0f} s."
    return "\n".join([*lines, "", ready])


if __name__ == "__main__":
    main()
