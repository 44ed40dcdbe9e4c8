"""The paper's claim on the embedded model: does training on feedback make better data, task by task?

    python benchmarks/claim.py --work DIR --seeds 0 1 2 [--tasks FILE] [--instances 5] [--set key=value ...]

A run of its own for each seed, from its instructions on, with every arm: without feedback, chosen by the reward,
best-of-n, trained, both, and nonsense that a measure must not take for more. Two measures: the references' likelihood
and ROUGE-L. Stopped, the same command goes on. A run that has ended adds its figures, task by task, to claim.json
beside, so that seeds can be run on several machines; the section in docs/benchmarks.md is made of those that are there.
Settings are chosen on other tasks (`--tasks` of Super-NI's train split, with `--dry` so that nothing is written) before
the test tasks are asked.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from feedback import machine
from section import write_section

from refine_af.config import Config, load_config
from refine_af.environment import quiet_libraries
from refine_af.errors import RefineError
from refine_af.evaluation.significance import wilson_interval
from refine_af.experiment.policies import ROUGE_L, AcrossPolicies, by_task, over_policies
from refine_af.experiment.results import BASE, pooled_arms, read_evaluations
from refine_af.progress import Lines
from refine_af.run import Run, open_run

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).with_suffix(".json")
CONTROL, CLAIM = "self_instruct", "tuned"
NONSENSE = ("shortest", "shuffled", "last_word")
ARMS = (CONTROL, "initial", "best_of_n", "tuned_first", CLAIM, *NONSENSE)
RIVALS = (CONTROL, "initial", "best_of_n", "tuned_first", "shortest", BASE)  # what both together must beat
FIGURES = ("margin", "content", ROUGE_L, "end", "loss")
CLAIMED = FIGURES[:3]
HELD_OUT = ("", "readable_", "fit_", "witness_")  # what training changed

Found = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="the folder of the runs")
    parser.add_argument(
        "--seeds", type=int, nargs="*", default=[0, 1, 2], help="a run for each; none: the section again"
    )
    parser.add_argument("--tasks", type=Path, default=ROOT.parent / "shared/data/superni_test.jsonl.gz")
    parser.add_argument("--instances", type=int, default=5, help="of each task")
    parser.add_argument("--instructions", type=int, default=132, help="to be kept")
    parser.add_argument("--dry", action="store_true", help="write neither claim.json nor the section")
    parser.add_argument("--set", action="append", default=[], help="another option, as `refine-af run` takes it")
    given = parser.parse_args()
    quiet_libraries()
    options = [
        "policy.iterations=16",
        f"policy.held_out={given.instructions // 3}",
        f"experiment.arms=[{', '.join(ARMS)}]",
        "experiment.likelihood=true",
        f"experiment.instances={given.instances}",
        f"instructions.target={given.instructions}",
        *given.set,
    ]
    found: Found = {"options": options, "tasks": given.tasks.name, "runs": {}}
    if not given.dry and RESULTS.is_file():
        known = json.loads(RESULTS.read_text(encoding="utf-8"))
        if {**known, "runs": {}} != found:
            sys.exit(f"{RESULTS} holds runs with other options or tasks; use those, or remove it")
        found = known
    where = f"experiment.tasks={json.dumps(str(given.tasks.resolve()))}"
    for seed in given.seeds:
        config = load_config(preset="embedded", overrides=[f"seed={seed}", where, *options])
        folder = given.work / f"seed-{seed}"
        try:
            Run(config, folder, Lines()).execute()
            found["runs"][str(seed)] = figures(folder, config)
        except RefineError as error:
            sys.exit(f"{error}")
        if not given.dry:
            RESULTS.write_text(json.dumps(found) + "\n", encoding="utf-8")
    if not found["runs"]:
        sys.exit(f"{RESULTS} holds no run; name a seed")
    if not given.dry:
        write_section("claim", "claim.py", section(found))
    print(section(found))


def figures(folder: Path, config: Config) -> Found:
    """What a run measured: of each model and figure the tasks' means, in the order of ``tasks``."""
    with open_run(folder) as store:
        size = int(dict(store.metric("arms", "instructions"))[0])
        names = [f"held_out_{figure}difference{part}" for figure in HELD_OUT for part in ("", "_low", "_high")]
        held_out = {name: round(points[0][1], 5) for name in names if (points := store.metric("policy", name))}
    evaluations = read_evaluations(folder / "arms", config.experiment, [size])
    models = {one.name: one for one in pooled_arms(evaluations, config.experiment, size)}
    models[BASE] = evaluations[BASE]
    tasks = sorted(by_task(models[BASE], ROUGE_L))
    return {
        "machine": machine(),
        "commit": _commit(),
        "instructions": size,
        "instances": len(models[BASE].rows),
        "held_out": held_out,
        "tasks": tasks,
        "values": {
            name: {figure: _rounded(by_task(model, figure), tasks) for figure in FIGURES}
            for name, model in models.items()
        },
    }


def _rounded(of: Mapping[str, float], tasks: Sequence[str]) -> list[float | None]:
    return [round(of[task], 5) if task in of else None for task in tasks]


def _commit() -> str:
    return subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()


def against(found: Found, arm: str, control: str, figure: str, seeds: Sequence[str] = ()) -> AcrossPolicies:
    """What an arm has over another one in all runs, or in those of ``seeds``."""
    differences = {}
    for seed in seeds or found["runs"]:
        run = found["runs"][seed]
        ours, theirs = (run["values"][name][figure] for name in (arm, control))
        columns = zip(run["tasks"], ours, theirs, strict=True)
        differences[int(seed)] = {task: a - b for task, a, b in columns if a is not None and b is not None}
    one = over_policies(arm, control, figure, differences)
    if one is None:
        sys.exit(f"the runs share fewer than two tasks that have {figure}")
    return one


# -- the section ---------------------------------------------------------------------------------------


def section(found: Found) -> str:
    runs = found["runs"]
    lines = [
        "## The paper's claim on the embedded model (`benchmarks/claim.py`, `benchmarks/claim.json`)",
        "",
        f"{found['tasks']}, zero-shot, {_listed(runs, 'instances')} instances of {_listed(runs, 'tasks')} tasks;",
        f"{len(runs)} runs from their instructions on ({_listed(runs, 'instructions')} of them), one training an arm.",
        "Intervals of 95 % over tasks and runs, and tasks won : lost. `self_instruct` is the control: first pairs, no",
        "feedback. `initial` chooses by the reward, `tuned_first` trains on it, `tuned` does both. A nonsense arm",
        "shows what a figure pays for that is no better data.",
        "",
        *_table(found),
        "",
        "What `tuned` has over each of the rest:",
        "",
        "| `tuned` over | margin | content | ROUGE-L |",
        "|---|---|---|---|",
    ]
    for rival in RIVALS:
        lines.append(f"| `{rival}` | {' | '.join(_cell(against(found, CLAIM, rival, one)) for one in CLAIMED)} |")
    lines += [
        "",
        f"Run by run, `tuned` over `{CONTROL}`, and the reward of sound held-out pairs:",
        "",
        "| seed | margin | content | ROUGE-L | reward gained | machine, commit |",
        "|---|---|---|---|---|---|",
    ]
    for seed, run in runs.items():
        cells = [_cell(against(found, CLAIM, CONTROL, figure, [seed])) for figure in CLAIMED]
        cells += [_trained(run["held_out"]), f"{run['machine']}, {run['commit']}"]
        lines.append(f"| {seed} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _listed(runs: Mapping[str, Any], name: str) -> str:
    """What the runs have of it, each number once."""
    of = (run[name] for run in runs.values())
    return ", ".join(map(str, dict.fromkeys(len(one) if isinstance(one, list) else one for one in of)))


def _table(found: Found) -> list[str]:
    lines = [
        f"| over `{CONTROL}` | margin | content | ROUGE-L | of the decided | end | loss (less is better) |",
        "|---|---|---|---|---|---|---|",
    ]
    for arm in (BASE, *ARMS[1:]):
        of = {figure: against(found, arm, CONTROL, figure) for figure in FIGURES}
        name = f"`{arm}`" + (" (nonsense)" if arm in NONSENSE else " (untouched)" if arm == BASE else "")
        shown = [_cell(of[figure]) for figure in CLAIMED]
        shown += [_share(of[ROUGE_L]), *(f"{of[figure].mean:+.3f}" for figure in ("end", "loss"))]
        lines.append(f"| {name} | {' | '.join(shown)} |")
    return lines


def _cell(one: AcrossPolicies) -> str:
    digits = 2 if one.figure == ROUGE_L else 3
    mean, low, high = (f"{value:+.{digits}f}" for value in (one.mean, one.low, one.high))
    return f"{mean} ({low} to {high}) {one.won}:{one.lost}"


def _share(one: AcrossPolicies) -> str:
    """Tasks won in ROUGE-L, of those that don't tie, with Wilson's interval."""
    decided = one.won + one.lost
    if not decided:
        return "all tie"
    low, high = wilson_interval(one.won, decided)
    return f"{one.won / decided:.0%} ({low:.0%} to {high:.0%})"


def _trained(one: Mapping[str, float]) -> str:
    if "held_out_difference" not in one:
        return "no sound pair both times"
    mean, low, high = (one[f"held_out_difference{part}"] for part in ("", "_low", "_high"))
    return f"{mean:+.2f} ({low:+.2f} to {high:+.2f})"


if __name__ == "__main__":
    main()
