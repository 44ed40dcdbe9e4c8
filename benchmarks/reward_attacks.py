"""Outputs that a policy might write to be paid without answering: how many of them stay below people's median pair.

    python benchmarks/reward_attacks.py [--data FILE] [--of-each 60]

Writes reward_attacks.json beside and the section in docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from statistics import mean, median
from typing import Any

from feedback import ROOT, machine, seeds
from section import write_section
from spoiling import ATTACKS, genuine, spoilt

from refine_af.config import load_config
from refine_af.feedback.base import Example
from refine_af.feedback.composite import Composite
from refine_af.parts import Parts

RESULTS = Path(__file__).with_suffix(".json")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--data", type=Path, default=ROOT.parent / "shared/data/superni_train_small.jsonl.gz")
    arguments.add_argument("--of-each", type=int, default=60, help="outputs of each attack")
    given = arguments.parse_args()
    if not given.data.is_file():
        sys.exit(f"{given.data} is not there; name the file of tasks with --data")
    config = load_config()
    with tempfile.TemporaryDirectory() as scratch:
        reward = Parts(config, Path(scratch)).feedback(seeds(config))
        found = {"machine": machine(), **attacked(reward, genuine(given.data, 1), given.of_each)}
    RESULTS.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=2))
    write_section("reward attacks", "reward_attacks.py", section(found))


def attacked(reward: Composite, pairs: list[Example], count: int) -> dict[str, Any]:
    people = [j.reward for j in reward.judge(pairs)]
    attacks = {}
    for name, rule in ATTACKS.items():
        rewards = [j.reward for j in reward.judge(spoilt(rule, pairs, count, seed=2))]
        attacks[name] = {
            "outputs": len(rewards),
            "below_median": round(mean(r < median(people) for r in rewards), 3),
            "mean": round(mean(rewards), 2),
            "highest": round(max(rewards), 2),
        }
        print(name, json.dumps(attacks[name]), flush=True)
    return {
        "pairs": len(pairs),
        "people_median": round(median(people), 2),
        "people_mean": round(mean(people), 2),
        "floor": reward.floor,
        "attacks": attacks,
    }


def section(found: dict[str, Any]) -> str:
    lines = [
        "## Attacks on the embedded reward (`benchmarks/reward_attacks.py`, `benchmarks/reward_attacks.json`)",
        "",
        f"Machine: {found['machine']}.",
        "",
        f"{found['pairs']} people's pairs of Super-NaturalInstructions (one a task):",
        f"median reward {found['people_median']}, mean {found['people_mean']}; the floor is {found['floor']}.",
        "",
        "| attack | outputs | below people's median | mean reward | highest |",
        "|---|---|---|---|---|",
    ]
    for name, one in found["attacks"].items():
        lines.append(f"| {name} | {one['outputs']} | {one['below_median']:.1%} | {one['mean']} | {one['highest']} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
