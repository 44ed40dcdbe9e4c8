"""What training on a reward makes of a policy's pairs, choosing by it apart: students of four data sets from the same
instructions.

    python benchmarks/optimised.py RUN [RUN ...] [--trainings 1]

A run is one that has trained its policy and has its pairs (`--until instances`); several are several policies. A data
set has each instruction's first pair that the rules keep, or its best by the reward, by the initial policy or the tuned
one. Of the first pairs what differs is what training did: a reward that is gamed shows in words, in diversity and in
students that know less. Students are kept in the run's folder, so the same command goes on. Writes optimised.json
beside and the section in docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from feedback import machine
from section import write_section
from students import TASKS, say, student_config, words

from refine_af.config import Arm, Config
from refine_af.environment import quiet_libraries
from refine_af.errors import RefineError
from refine_af.evaluation.references import FIGURES, Measured, of_tasks
from refine_af.experiment.data import chosen_pairs, match
from refine_af.experiment.policies import over_policies
from refine_af.feedback.base import Example
from refine_af.language import ENGLISH
from refine_af.parts import Parts
from refine_af.run import open_run
from refine_af.stages.pairs import distinct_bigrams
from refine_af.validation.gains import gains
from refine_af.validation.students import Students

RESULTS = Path(__file__).with_suffix(".json")
CONTROL = "self_instruct"
ARMS = tuple(Arm.model_validate(name) for name in (CONTROL, "tuned_first", "initial", "tuned"))
TITLES = {"tuned_first": "training", "initial": "choosing", "tuned": "both"}


def data_sets(run: Path, arms: Sequence[Arm] = ARMS) -> tuple[dict[str, list[Example]], dict[str, float]]:
    """Of each arm the pairs, in one order of the instructions that all arms have; and their mean rewards."""
    with open_run(run) as store:
        config = Config.model_validate(store.run_config())
        texts = {one.id: one.text for one in store.instructions()}
        kept = match({arm.name: chosen_pairs(store, arm, config) for arm in arms}).kept
    rows = {name: [row for id in texts if id in of for row in of[id]] for name, of in kept.items()}
    pairs = {
        name: [Example(texts[row.instruction_id], row.input, row.output) for row in of] for name, of in rows.items()
    }
    return pairs, {name: fmean(row.reward or 0.0 for row in of) for name, of in rows.items()}


def looked_at(run: Path, students: Students, trainings: int) -> tuple[dict[str, Any], dict[str, list[Measured]]]:
    pairs, rewards = data_sets(run)
    tuned = {
        name: [students.tuned_on(name, of, training) for training in range(trainings)] for name, of in pairs.items()
    }
    arms = {
        name: {
            "words": words(of),
            "distinct_2": distinct_bigrams([one.output for one in of], ENGLISH),
            "reward": rewards[name],
            "gains": {figure: asdict(gain) for figure, gain in gains(tuned[CONTROL], tuned[name]).items()},
        }
        for name, of in pairs.items()
    }
    return {"pairs": len(pairs[CONTROL]), "trainings": trainings, **held_out(run), "arms": arms}, tuned


def held_out(run: Path) -> dict[str, Any]:
    """How the run's policy was trained, and what it did on the instructions that it was not trained on."""
    with open_run(run) as store:
        policy = (store.run_config() or {})["policy"]
        rows = store.query("SELECT name, value FROM metrics WHERE stage = 'policy' AND name LIKE 'held_out_%'")
    measured = {row["name"].removeprefix("held_out_"): row["value"] for row in rows}
    shown = f"{policy['algorithm']}, {policy['iterations']} × {policy['rollouts']}, {policy['learning_rate']:g}"
    return {"settings": shown, "held_out": measured}


def across(students: Sequence[Mapping[str, Sequence[Measured]]]) -> dict[str, Any]:
    """Of each arm and figure what it has over the control, with an interval over tasks and policies."""
    found: dict[str, Any] = {}
    for name in TITLES:
        for figure in FIGURES:
            differences = {
                policy: {
                    unit: fmean(one[unit][figure] for one in of[name]) - fmean(one[unit][figure] for one in of[CONTROL])
                    for unit in of[CONTROL][0]
                }
                for policy, of in enumerate(students)
            }
            one = over_policies(name, CONTROL, figure, differences)
            assert one is not None, "99 tasks are asked"
            found.setdefault(name, {})[figure] = asdict(one)
    return found


# -- the table -----------------------------------------------------------------------------------------


def section(found: dict[str, Any]) -> str:
    count = len(found["runs"])
    whose = "these policies'" if count > 1 else "this policy's"
    lines = [
        "## What training on the reward makes of pairs (`benchmarks/optimised.py`, `benchmarks/optimised.json`)",
        "",
        f"Machine: {found['machine']}. Held-out instructions before → after; sound pairs alone have a reward.",
        "",
        "| policy | sound | reward gained | witness gained | pairs | words | distinct-2 |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, one in found["runs"].items():
        measured, first = one["held_out"], (one["arms"][CONTROL], one["arms"]["tuned_first"])
        cells = [
            f"{name}: {one['settings']}",
            f"{measured['readable_before']:.0%} → {measured['readable_after']:.0%}",
            _interval(measured, "difference", 2),
            _interval(measured, "witness_difference", 3),
            str(one["pairs"]),
            " → ".join(f"{arm['words']:.1f}" for arm in first),
            " → ".join(f"{arm['distinct_2']:.2f}" for arm in first),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        f"Words and distinct-2 are those of first pairs. Students of {whose} pairs over students of the initial",
        f"policy's first ones, in nats, with 95 % intervals over tasks{' and policies' if count > 1 else ''};",
        "tasks won : lost; each policy's own mean.",
        "",
        "| what was done | margin | content | end | loss (less is better) |",
        "|---|---|---|---|---|",
    ]
    for name, title in TITLES.items():
        of = found["across"][name]
        shown = [_cell(of["margin"]), _cell(of["content"]), *(f"{of[f]['mean']:+.3f}" for f in ("end", "loss"))]
        lines.append(f"| {title} (`{name}`) | {' | '.join(shown)} |")
    return "\n".join(lines)


def _interval(measured: Mapping[str, float], name: str, digits: int) -> str:
    mean, low, high = (measured[f"{name}{part}"] for part in ("", "_low", "_high"))
    return f"{mean:+.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def _cell(one: Mapping[str, Any]) -> str:
    each = ", ".join(f"{value:+.3f}" for value in one["by_policy"].values())
    return f"{one['mean']:+.3f} ({one['low']:.3f} to {one['high']:.3f}) {one['won']}:{one['lost']}; {each}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--trainings", type=int, default=1)
    parser.add_argument("--questions", type=Path, default=TASKS, help="the tasks that students are measured by")
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    given = parser.parse_args()
    quiet_libraries()
    runs, students = {}, []
    try:
        with tempfile.TemporaryDirectory(prefix="refine-af-") as scratch:
            parts = Parts(student_config(given.threads), Path(scratch))
            questions = of_tasks(parts, given.questions, tasks=99, instances=4)
            for run in given.runs:
                of_run = Students(parts, questions, run / "optimised.jsonl", say)
                runs[run.name], tuned = looked_at(run, of_run, given.trainings)
                students.append(tuned)
    except RefineError as error:
        sys.exit(f"{error}")
    found: dict[str, Any] = {"machine": machine(), "runs": runs, "across": across(students)}
    RESULTS.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    write_section("optimised", "optimised.py", section(found))
    print(section(found))


if __name__ == "__main__":
    main()
