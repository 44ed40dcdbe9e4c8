"""PPO, GRPO, RLOO and best-of-n on the embedded model, from the same instructions, with as many tokens generated.

    python benchmarks/policy.py --out FOLDER [--seeds 0 1 2] [--algorithms ppo grpo rloo best_of_n] [--set key=value]

Every algorithm and seed is a run in FOLDER, from the instructions that the seed's runs share to the pairs. Started
again with the same settings it goes on, and what is finished is only read. Writes policy.json beside, where other
algorithms and seeds with the same settings are kept, and a section in docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from section import write_section

from refine_af.config import load_config
from refine_af.evaluation.significance import paired_difference
from refine_af.feedback.embedded import FLOOR
from refine_af.models import build_once
from refine_af.records import PolicyName
from refine_af.run import open_run
from refine_af.store import Store

RESULTS = Path(__file__).with_suffix(".json")
ALGORITHMS = ("ppo", "grpo", "rloo", "best_of_n")
# The embedded preset, for longer and on more instructions: a run of PPO in less than 45 minutes on two cores. With 48
# instructions kept out the interval is narrow enough to show what training does.
SETTINGS = (
    "instructions.target=160",
    "policy.iterations=16",
    "policy.rollouts=32",
    "policy.minibatch=8",
    "policy.held_out=48",
    "policy.held_out_samples=3",
    "instances.candidates=2",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--algorithms", nargs="+", choices=ALGORITHMS, default=list(ALGORITHMS))
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="key=value")
    chosen = parser.parse_args()
    if set(chosen.algorithms) <= {"best_of_n"}:
        parser.error("best_of_n is compared on the instructions that a training algorithm keeps out: name one too")
    latest = dict(setting.split("=", 1) for setting in (*SETTINGS, *chosen.settings))
    settings = [f"{key}={value}" for key, value in latest.items()]
    for seed in chosen.seeds:
        for algorithm in chosen.algorithms:
            run(chosen.out, settings, algorithm, seed)
    results = [one for seed in chosen.seeds for one in measured(chosen.out, chosen.algorithms, seed)]
    with open_run(place(chosen.out, chosen.algorithms[0], chosen.seeds[0])) as store:
        versions = json.loads(store.scalar("SELECT versions FROM runs"))
    found = {
        "settings": settings,
        "results": results,
        "versions": versions,
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
        "python": platform.python_version(),
    }
    found["results"] = joined(known_results(settings), results)
    RESULTS.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    text = section(found)
    print(text)
    write_section("policy", "policy.py", text)


def known_results(settings: Sequence[str]) -> list[dict[str, Any]]:
    if not RESULTS.is_file():
        return []
    known = json.loads(RESULTS.read_text(encoding="utf-8"))
    return known["results"] if known["settings"] == settings else []


def joined(known: Sequence[dict[str, Any]], new: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """All results, by algorithm and seed; a new one in the place of an old one."""
    rows = {(ALGORITHMS.index(one["algorithm"]), one["seed"]): one for one in (*known, *new)}
    return [rows[key] for key in sorted(rows)]


def place(out: Path, algorithm: str, seed: int) -> Path:
    return out / f"{algorithm}-{seed}"


def run(out: Path, settings: Sequence[str], algorithm: str, seed: int) -> None:
    """Goes on with the run, or starts it from the instructions of its seed."""
    shared = [*settings, f"seed={seed}"]
    own = [*shared, f"policy.algorithm={algorithm}"]
    first, folder = place(out, "instructions", seed), place(out, algorithm, seed)
    command(first, shared, "instructions")

    def branch(to: Path) -> None:
        shutil.copytree(first, to, dirs_exist_ok=True)
        with Store(to / "run.db") as store:
            config = load_config(preset="embedded", overrides=own)
            store.change_config(config.model_dump(mode="json"), f"policy.algorithm: {algorithm}")

    build_once(folder, branch)
    command(folder, own, "instances")


def command(folder: Path, settings: Sequence[str], until: str) -> None:
    given = [part for setting in settings for part in ("--set", setting)]
    subprocess.run(
        [
            sys.executable,
            "-m",
            "refine_af",
            "run",
            "--preset",
            "embedded",
            "--out",
            str(folder),
            "--until",
            until,
            *given,
        ],
        check=True,
    )


def measured(out: Path, algorithms: Sequence[str], seed: int) -> list[dict[str, Any]]:
    """What each algorithm came to with one seed. The instructions kept out of training, and the control's pairs for
    them, are the same in all runs of a seed that train."""
    trained = next(name for name in algorithms if name != "best_of_n")
    with open_run(place(out, trained, seed)) as store:
        held_out = [r["instruction_id"] for r in rollouts(store, "before")]
        held_out = list(dict.fromkeys(held_out))
        control = best_rewards(store, "initial", held_out)
    found = []
    for algorithm in algorithms:
        with open_run(place(out, algorithm, seed)) as store:
            one: dict[str, Any] = {"algorithm": algorithm, "seed": seed, "held_out": len(held_out)}
            one |= {"seconds": seconds(store), "tokens": tokens(store)}
            policy: PolicyName = "tuned"
            if algorithm == "best_of_n":
                policy = "initial"
            else:
                one["policy"] = before_and_after(store)
            best = best_rewards(store, policy, held_out)
            one["data"] = {
                "control": fmean(control),
                "reward": fmean(best),
                "difference": asdict(paired_difference(control, best, seed=seed)),
            }
            found.append(one)
    return found


def seconds(store: Store) -> dict[str, float]:
    rows = store.query("SELECT * FROM stages WHERE name IN ('policy', 'instances')")
    return {row["name"]: round(row["finished_at"] - row["started_at"], 1) for row in rows}


def tokens(store: Store) -> dict[str, int]:
    """Completions that were sampled to make the data: to train on, and as candidates; of the first their tokens."""
    sampled = int(store.scalar("SELECT COUNT(*) FROM rollouts WHERE split = 'train'"))
    candidates = int(store.scalar("SELECT read FROM stages WHERE name = 'instances'"))
    if sampled:
        candidates //= 2  # the other half is the control's
    trained = int(store.scalar("SELECT COALESCE(SUM(tokens), 0) FROM rollouts WHERE split = 'train'"))
    return {"rollouts": sampled, "candidates": candidates, "rollout_tokens": trained}


def rollouts(store: Store, split: str) -> list[Any]:
    return store.query("SELECT * FROM rollouts WHERE split = ? ORDER BY position", split)


def before_and_after(store: Store) -> dict[str, Any]:
    """The held-out instructions under the initial and under the tuned policy, as the run has measured them."""

    def metric(name: str) -> float:
        return dict(store.metric("policy", name))[0]

    def difference(name: str) -> dict[str, float]:
        parts = {"mean": "", "low": "_low", "high": "_high"}
        return {part: metric(f"{name}difference{ending}") for part, ending in parts.items()}

    found: dict[str, Any] = {
        split: {
            "reward": metric(f"held_out_{split}"),
            "readable": metric(f"held_out_readable_{split}"),
            "distinct_2": metric(f"held_out_distinct_2_{split}"),
            "witness": metric(f"held_out_witness_{split}"),
        }
        for split in ("before", "after")
    }
    found["difference"] = difference("held_out_")
    found["witness_difference"] = difference("held_out_witness_")
    found["stopped"] = store.cursor("policy").get("stopped")
    return found


def best_rewards(store: Store, policy: PolicyName, instructions: Sequence[str]) -> list[float]:
    """The reward of each instruction's best pair, which is the one that the data set takes; the floor where none could
    be read."""
    best = dict.fromkeys(instructions, FLOOR)
    for one in store.instances(policy=policy):
        if one.instruction_id in best and one.reward is not None:
            best[one.instruction_id] = max(best[one.instruction_id], one.reward)
    return list(best.values())


def section(found: dict[str, Any]) -> str:
    versions = found["versions"]
    named = ", ".join(f"{name} {versions[name]}" for name in ("torch", "transformers", "trl", "peft", "ctranslate2"))
    trained = [one for one in found["results"] if "policy" in one]

    def interval(difference: dict[str, float]) -> str:
        return f"{difference['mean']:+.3f} ({difference['low']:+.3f} to {difference['high']:+.3f})"

    lines = [
        "## PPO, GRPO, RLOO and best-of-n (`benchmarks/policy.py`, `benchmarks/policy.json`)",
        "",
        f"The embedded preset with {', '.join(found['settings'])}. Machine: {found['machine']}, no GPU, Python "
        f"{found['python']}. {named}.",
        "",
        "Held-out instructions before and after training; in brackets 95 % intervals of the paired difference over "
        "instructions. Witness: `relevance`, which the reward hasn't in it, over the instructions whose pairs could be "
        "read both times. Where a guard stopped, its name stands beside the algorithm's.",
        "",
        "| algorithm | seed | reward before | after | difference | readable | distinct-2 | witness | difference |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for one in trained:
        before, after = one["policy"]["before"], one["policy"]["after"]
        stopped = f" ({one['policy']['stopped']})" if one["policy"]["stopped"] else ""
        lines.append(
            f"| {one['algorithm']}{stopped} | {one['seed']} | {before['reward']:+.3f} | {after['reward']:+.3f} | "
            f"{interval(one['policy']['difference'])} | {before['readable']:.0%} → {after['readable']:.0%} | "
            f"{before['distinct_2']:.3f} → {after['distinct_2']:.3f} | {before['witness']:.3f} → "
            f"{after['witness']:.3f} | {interval(one['policy']['witness_difference'])} |"
        )
    lines += [
        "",
        "What ends up in the data set for the same instructions: the best of each one's candidates. The control is the "
        "initial policy with as many candidates as the tuned one; best-of-n has the rollouts' completions besides. "
        "Minutes are those of both stages on a machine that may have done other work too; the first run of a seed has "
        "the anchors' gradients in them.",
        "",
        "| algorithm | seed | rollouts | candidates | best of the control | best | difference | minutes |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in found["results"]:
        data, sampled = one["data"], one["tokens"]
        lines.append(
            f"| {one['algorithm']} | {one['seed']} | {sampled['rollouts']} | {sampled['candidates']} | "
            f"{data['control']:+.3f} | {data['reward']:+.3f} | {interval(data['difference'])} | "
            f"{sum(one['seconds'].values()) / 60:.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
