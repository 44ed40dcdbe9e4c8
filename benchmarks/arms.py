"""The paper's experiment on the embedded model: tuned on pairs of the initial policy, the tuned one, and best-of-n.

    python benchmarks/arms.py [--tasks FILE] [--instances 5] [--instructions 120] [--work DIR] [--set key=value ...]

``--work`` is a run's folder: stopped, the same command goes on. At the end the figures stand in arms.json beside, and
the section in docs/benchmarks.md is made of them.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from feedback import machine
from section import write_section

from refine_af.config import load_config
from refine_af.environment import quiet_libraries
from refine_af.evaluation.comparison_text import between, p_value, percent, percents, points
from refine_af.progress import Lines, duration
from refine_af.run import Run, open_run

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).with_suffix(".json")
ARMS = ("initial", "tuned", "best_of_n")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--tasks", type=Path, default=ROOT.parent / "shared/data/superni_test.jsonl.gz")
    arguments.add_argument("--instances", type=int, default=5, help="of each task")
    arguments.add_argument("--instructions", type=int, default=120, help="to be kept")
    arguments.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "refine-af-arms")
    arguments.add_argument("--set", action="append", default=[], help="another option, as `refine-af run` takes it")
    given = arguments.parse_args()
    if not given.tasks.exists():
        sys.exit(f"{given.tasks} is not there; name the file or folder of tasks with --tasks")
    quiet_libraries()
    settings = [
        f"experiment.arms=[{', '.join(ARMS)}]",
        f"experiment.tasks={json.dumps(str(given.tasks.resolve()))}",
        f"experiment.instances={given.instances}",
        f"instructions.target={given.instructions}",
        *given.set,
    ]
    Run(load_config(preset="embedded", overrides=settings), given.work, Lines()).execute()
    shown = [f"instructions.target={given.instructions}", *given.set]
    found = {"machine": machine(), "settings": shown, **figures(given.work)}
    RESULTS.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    write_section("arms", "arms.py", section(found))
    print(section(found))


def figures(folder: Path) -> dict[str, Any]:
    """What the run says of itself; of a comparison all but its single tasks."""
    found: dict[str, Any] = json.loads((folder / "arms" / "comparison.json").read_text(encoding="utf-8"))
    for comparison in found["comparisons"]:
        for versus in comparison["against"]:
            del versus["tasks"]
    with open_run(folder) as store:
        config = store.run_config() or {}
        seconds = {
            row["name"]: round(row["seconds"])
            for row in store.query("SELECT name, finished_at - started_at seconds FROM stages ORDER BY rowid")
        }
        rewards = {
            row["arm"]: row["mean"]
            for row in store.query(
                "SELECT arm, AVG(reward) mean FROM arm_rows JOIN instances ON id = instance_id GROUP BY arm"
            )
        }
        held_out = {name: store.metric("policy", f"held_out_{name}")[-1][1] for name in ("before", "after")}
    del found["experiment"]["tasks"]  # a place on one machine
    return {"config": {k: config[k] for k in ("seed", "instructions", "policy", "instances", "finetune")},
            "seconds": seconds, "reward_of_the_data": rewards, "held_out_reward": held_out, **found}  # fmt: skip


def section(found: dict[str, Any]) -> str:
    control = next(c for c in found["comparisons"] if c["training_seed"] is None and c["control"] == ARMS[0])
    base = next(c for c in found["comparisons"] if c["training_seed"] is None and c["control"] == "base")
    overall, data = control["against"][0]["overall"], found["data"]
    seeds = found["experiment"]["seeds"]
    return "\n".join(
        [
            "## The paper's experiment on the embedded model (`benchmarks/arms.py`, `benchmarks/arms.json`)",
            "",
            f"Machine: {found['machine']}; {duration(sum(found['seconds'].values()))} in all, of which the arms took "
            f"{duration(found['seconds']['arms'])}, on a machine that may have done other work too. The embedded "
            f"preset with {', '.join(found['settings'])}; held-out reward {found['held_out_reward']['before']:+.2f} "
            f"before and {found['held_out_reward']['after']:+.2f} after PPO.",
            "",
            f"Three data sets from the same {data['instructions']:.0f} instructions, one LoRA training on each "
            f"({'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}), zero-shot on {overall['tasks']} "
            f"tasks of Super-NaturalInstructions, {found['scores']['base']['instances']:.0f} instances. Intervals are "
            "of 95 %: Wilson's for shares, the bootstrap over tasks for differences.",
            "",
            *against_control(control, found["reward_of_the_data"]),
            "",
            *[versus["conclusion"] for versus in control["against"]],
            "",
            *scores(found, base),
        ]
    )


def against_control(control: dict[str, Any], rewards: dict[str, float]) -> list[str]:
    lines = [
        f"| against `{control['control']}` | mean reward of the data | won/tied/lost | improved, of all | "
        "of the decided | mean difference | sign test | Wilcoxon |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for versus in control["against"]:
        one = versus["overall"]
        cells = [
            f"`{versus['name']}`",
            f"{rewards[versus['name']]:+.2f} (control {rewards[control['control']]:+.2f})",
            f"{one['wins']}/{one['ties']}/{one['losses']}",
            f"{percent(one['share']['value'])} ({percents(one['share']['wilson'])})",
            f"{percent(one['share_decided']['value'])} ({percents(one['share_decided']['wilson'])})",
            f"{points(one['difference']['value'])} ({between(one['difference']['bootstrap']['tasks'])})",
            f"p {p_value(one['sign_p'])}",
            f"p {p_value(one['wilcoxon_p'])}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def scores(found: dict[str, Any], base: dict[str, Any]) -> list[str]:
    """Base and every training, each with its official figures; to the base, means over tasks of all seeds."""
    to_base = {versus["name"]: versus["overall"]["difference"] for versus in base["against"]}
    lines = ["| model | ROUGE-L | exact match | difference to the base |", "|---|---|---|---|"]
    for name, one in found["scores"].items():
        difference = to_base.get(name.partition("-size")[0])
        shown = (
            "" if difference is None
            else f"{points(difference['value'])} ({between(difference['bootstrap']['tasks'])})"
        )  # fmt: skip
        lines.append(f"| {name} | {one['rouge_l']:.2f} | {one['exact_match']:.2f} | {shown} |")
    return lines


if __name__ == "__main__":
    main()
