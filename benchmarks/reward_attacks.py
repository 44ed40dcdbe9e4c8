"""Outputs that a policy might write to be paid without answering: how many of them stay below people's median pair, by
the reward that chooses pairs and by what a policy is paid.

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
    """Both rewards have the same scorers, which remember the last batch."""
    rewards = {"choosing": reward, "training": reward.for_training()}
    people = {use: [j.reward for j in one.judge(pairs)] for use, one in rewards.items()}
    attacks: dict[str, dict[str, Any]] = {}
    for name, rule in ATTACKS.items():
        outputs = spoilt(rule, pairs, count, seed=2)
        attacks[name] = {"outputs": len(outputs)}
        for use, one in rewards.items():
            paid = [j.reward for j in one.judge(outputs)]
            attacks[name][use] = {
                "below_median": round(mean(r < median(people[use]) for r in paid), 3),
                "mean": round(mean(paid), 2),
                "highest": round(max(paid), 2),
            }
        print(name, json.dumps(attacks[name]), flush=True)
    middle = {use: {"median": round(median(of), 2), "mean": round(mean(of), 2)} for use, of in people.items()}
    return {"pairs": len(pairs), "people": middle, "floor": reward.floor, "attacks": attacks}


def section(found: dict[str, Any]) -> str:
    people = found["people"]
    lines = [
        "## Attacks on the embedded reward (`benchmarks/reward_attacks.py`, `benchmarks/reward_attacks.json`)",
        "",
        f"Machine: {found['machine']}.",
        "",
        f"{found['pairs']} people's pairs of Super-NaturalInstructions (one a task): their median is",
        f"{people['choosing']['median']} by the reward that chooses pairs and {people['training']['median']} by what a",
        f"policy is paid; the floor is {found['floor']}.",
        "",
        "| attack | outputs | choosing: below people's median | mean | highest | training: below | mean | highest |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, one in found["attacks"].items():
        cells = [
            f"{of['below_median']:.1%} | {of['mean']} | {of['highest']}" for of in (one["choosing"], one["training"])
        ]
        lines.append(f"| {name} | {one['outputs']} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
