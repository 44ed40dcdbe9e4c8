"""The paper's claim on the embedded model: does training on feedback make better data, task by task?

    python benchmarks/claim.py --work DIR [--tasks FILE] [--instances 20] [--policy-seeds 0 1 2] [--set key=value ...]

One run with every arm: without feedback, chosen by the reward, best-of-n, trained, both, and nonsense that a measure
must not take for more. Two measures: the references' likelihood and ROUGE-L. Stopped, the same command goes on.
Settings are chosen on other tasks (`--tasks` of Super-NI's train split, with `--dry` so that nothing is written) before
the test tasks are asked. Writes claim.json beside and the section in docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from feedback import machine
from section import write_section

from refine_af.config import Config, load_config
from refine_af.environment import quiet_libraries
from refine_af.errors import RefineError
from refine_af.evaluation.compare import Evaluation
from refine_af.evaluation.significance import wilson_interval
from refine_af.experiment.policies import ROUGE_L, AcrossPolicies, across_policies
from refine_af.experiment.results import pooled_arms, read_evaluations
from refine_af.progress import Lines
from refine_af.run import Run, open_run

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).with_suffix(".json")
CONTROL, CLAIM = "self_instruct", "tuned"
NONSENSE = ("shortest", "shuffled", "last_word")
ARMS = (CONTROL, "initial", "best_of_n", "tuned_first", CLAIM, *NONSENSE)
RIVALS = (CONTROL, "initial", "best_of_n", "shortest")  # what both together must beat
FIGURES = ("margin", "content", ROUGE_L, "end", "loss")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="the run's folder")
    parser.add_argument("--tasks", type=Path, default=ROOT.parent / "shared/data/superni_test.jsonl.gz")
    parser.add_argument("--instances", type=int, default=20, help="of each task")
    parser.add_argument("--instructions", type=int, default=132, help="to be kept")
    parser.add_argument("--policy-seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--dry", action="store_true", help="write neither claim.json nor the section")
    parser.add_argument("--set", action="append", default=[], help="another option, as `refine-af run` takes it")
    given = parser.parse_args()
    quiet_libraries()
    config = load_config(
        preset="embedded",
        overrides=[
            "policy.iterations=16",
            f"experiment.arms=[{', '.join(ARMS)}]",
            f"experiment.policy_seeds={given.policy_seeds}",
            "experiment.likelihood=true",
            f"experiment.tasks={json.dumps(str(given.tasks.resolve()))}",
            f"experiment.instances={given.instances}",
            f"instructions.target={given.instructions}",
            *given.set,
        ],
    )
    try:
        Run(config, given.work, Lines()).execute()
        found = {"machine": machine(), "settings": given.set, **figures(given.work, config)}
    except RefineError as error:
        sys.exit(f"{error}")
    if not given.dry:
        RESULTS.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        write_section("claim", "claim.py", section(found))
    print(section(found))


def figures(folder: Path, config: Config) -> dict[str, Any]:
    policies = {seed: arms_of(folder, config, seed) for seed in config.experiment.policy_seeds}
    base = read_evaluations(folder / "arms", config.experiment.model_copy(update={"arms": ()}), [])["base"]
    untouched = {seed: [base, *arms.values()] for seed, arms in policies.items()}
    against = {
        control: {f"{one.arm} {one.figure}": asdict(one) for one in compared(policies, control)} for control in RIVALS
    }
    against["base"] = {f"{one.arm} {one.figure}": asdict(one) for one in across_policies(untouched)}
    return {
        "config": {k: v for k, v in config.model_dump(mode="json").items() if k in ("seed", "policy", "instances")},
        "policies": {str(seed): training(folder_of(folder, seed)) for seed in policies},
        "instances": len(base.rows),
        "tasks": len({row.task for row in base.rows}),
        "against": against,
    }


def folder_of(folder: Path, seed: int) -> Path:
    return folder if seed == 0 else folder / "policies" / f"seed-{seed}"


def arms_of(folder: Path, config: Config, seed: int) -> dict[str, Evaluation]:
    where = folder_of(folder, seed)
    with open_run(where) as store:
        size = int(dict(store.metric("arms", "instructions"))[0])
    evaluations = read_evaluations(where / "arms", config.experiment, [size])
    return {one.name: one for one in pooled_arms(evaluations, config.experiment, size)}


def compared(policies: Mapping[int, Mapping[str, Evaluation]], control: str) -> list[AcrossPolicies]:
    return across_policies(
        {
            seed: [arms[control], *(one for name, one in arms.items() if name != control)]
            for seed, arms in policies.items()
        }
    )


def training(folder: Path) -> dict[str, float]:
    """What the policy's training did on held-out instructions."""
    parts = (
        "difference",
        "difference_low",
        "difference_high",
        "witness_difference",
        "readable_before",
        "readable_after",
    )
    names = [f"held_out_{part}" for part in parts]
    with open_run(folder) as store:
        return {name: dict(store.metric("policy", name))[0] for name in names if store.metric("policy", name)}


# -- the table -----------------------------------------------------------------------------------------


def section(found: dict[str, Any]) -> str:
    policies = found["policies"]
    lines = [
        "## The paper's claim on the embedded model (`benchmarks/claim.py`, `benchmarks/claim.json`)",
        "",
        f"Machine: {found['machine']}. {len(policies)} policies, {found['tasks']} tasks, {found['instances']}",
        "instances, zero-shot. Against the control, Self-Instruct without feedback; intervals of 95 % over tasks and",
        "policies, and tasks won : lost.",
        "",
        f"Held-out reward of sound pairs after training: {'; '.join(_trained(one) for one in policies.values())}.",
        "",
        *_table(found["against"][CONTROL], ARMS[1:], CONTROL),
        "",
        "What training and choosing together have over each of the rest:",
        "",
        "| `tuned` over | margin | content | ROUGE-L |",
        "|---|---|---|---|",
    ]
    for rival in (*RIVALS, "base"):
        cells = [_cell(found["against"][rival][f"{CLAIM} {figure}"]) for figure in ("margin", "content", ROUGE_L)]
        lines.append(f"| `{rival}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def _table(against: Mapping[str, Any], arms: Sequence[str], control: str) -> list[str]:
    lines = [
        f"| over `{control}` | margin | content | ROUGE-L | of the decided | end | loss (less is better) |",
        "|---|---|---|---|---|---|---|",
    ]
    for arm in arms:
        of = {figure: against[f"{arm} {figure}"] for figure in FIGURES}
        name = f"`{arm}`" + (" (nonsense)" if arm in NONSENSE else "")
        shown = [_cell(of[figure]) for figure in ("margin", "content", ROUGE_L)]
        shown += [_share(of[ROUGE_L]), *(f"{of[figure]['mean']:+.3f}" for figure in ("end", "loss"))]
        lines.append(f"| {name} | {' | '.join(shown)} |")
    return lines


def _cell(one: Mapping[str, Any]) -> str:
    digits = 2 if one["figure"] == ROUGE_L else 3
    mean, low, high = (f"{one[name]:+.{digits}f}" for name in ("mean", "low", "high"))
    return f"{mean} ({low} to {high}) {one['won']}:{one['lost']}"


def _share(one: Mapping[str, Any]) -> str:
    """Tasks won in ROUGE-L, of those that don't tie, with Wilson's interval."""
    decided = one["won"] + one["lost"]
    low, high = wilson_interval(one["won"], decided)
    return f"{one['won'] / decided:.0%} ({low:.0%} to {high:.0%})"


def _trained(one: Mapping[str, float]) -> str:
    mean, low, high = (one[f"held_out_difference{part}"] for part in ("", "_low", "_high"))
    return f"{mean:+.2f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    main()
