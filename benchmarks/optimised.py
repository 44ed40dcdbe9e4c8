"""What training on a reward makes of a policy's pairs: each instruction's first pair, by the tuned policy and by the
initial one, and students of both.

    python benchmarks/optimised.py RUN [RUN ...] [--trainings 1]

A run is one that has trained its policy (`--until policy`). Nothing is chosen, so what differs is what training did:
a reward that is gamed shows in words, in diversity and in students that know less. Pairs and students are kept in the
run's folder, so the same command goes on. Writes optimised.json beside and the section in docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from feedback import machine
from section import write_section
from students import TASKS, say, student_config

from refine_af.config import Config
from refine_af.environment import quiet_libraries
from refine_af.errors import RefineError
from refine_af.evaluation.references import of_tasks
from refine_af.evaluation.significance import paired_difference
from refine_af.feedback.base import Example
from refine_af.files import write_text
from refine_af.language import ENGLISH
from refine_af.parts import Parts
from refine_af.progress import Silent
from refine_af.records import derived_seed
from refine_af.run import open_run
from refine_af.stages.context import Context, generated_instructions
from refine_af.stages.pairs import PairWriter, distinct_bigrams
from refine_af.stages.team_engine import adapted_engine
from refine_af.store import Store
from refine_af.validation.gains import gains
from refine_af.validation.students import Students

RESULTS = Path(__file__).with_suffix(".json")
POLICIES = ("initial", "tuned")
Rows = dict[str, dict[str, Any]]  # by instruction


def first_pairs(run: Path, policy: str, threads: int) -> Rows:
    """Written once, in the run's config and on a copy of its database."""
    kept = run / f"optimised-{policy}.jsonl"
    if not kept.exists():
        with tempfile.TemporaryDirectory(prefix="refine-af-") as scratch:
            work = Path(scratch)
            shutil.copy(run / "run.db", work / "run.db")
            with Store(work / "run.db") as store:
                config = Config.model_validate(store.run_config()).model_copy(update={"threads": threads})
                context = Context(config, store, work, Parts(config, work), Silent())
                asked, seed = generated_instructions(store), derived_seed(config.seed, "first pairs")
                writer, adapter = PairWriter(context), run / "policy" if policy == "tuned" else None
                with adapted_engine(context.parts, context.team, adapter) as engine:
                    written = writer.write(engine, asked, config.instances.sampling, seed)
        rows = [
            {"instruction": w.instruction.text, "input": w.input, "output": w.output, "reward": w.judgement.reward,
             "fault": None if w.fault is None else w.fault[0]}
            for w in written
        ]  # fmt: skip
        write_text(kept, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return {row["instruction"]: row for row in map(json.loads, kept.read_text(encoding="utf-8").splitlines())}


def looked_at(run: Path, students: Students, trainings: int, threads: int) -> dict[str, Any]:
    rows = {policy: first_pairs(run, policy, threads) for policy in POLICIES}
    sound = {policy: {k: row for k, row in of.items() if not row["fault"]} for policy, of in rows.items()}
    both = [k for k in sound["initial"] if k in sound["tuned"]]
    rewards = [[sound[policy][k]["reward"] for k in both] for policy in POLICIES]
    pairs = {p: [Example(k, sound[p][k]["input"], sound[p][k]["output"]) for k in both] for p in POLICIES}
    tuned = {p: [students.tuned_on(p, pairs[p], training) for training in range(trainings)] for p in POLICIES}
    return {
        "instructions": len(rows["initial"]),
        "both_sound": len(both),
        "trainings": trainings,
        "sound": {policy: len(sound[policy]) / len(rows[policy]) for policy in POLICIES},
        "reward": {policy: fmean(of) for policy, of in zip(POLICIES, rewards, strict=True)},
        "reward_difference": asdict(paired_difference(*rewards)),
        "words": {p: fmean(len(one.output.split()) for one in pairs[p]) for p in POLICIES},
        "distinct_2": {p: distinct_bigrams([one.output for one in pairs[p]], ENGLISH) for p in POLICIES},
        "gains": {name: str(gain) for name, gain in gains(tuned["initial"], tuned["tuned"]).items()},
    }


def settings_of(run: Path) -> str:
    """What a run's policy was trained by."""
    with open_run(run) as store:
        policy = (store.run_config() or {})["policy"]
    return f"{policy['algorithm']}, {policy['iterations']} × {policy['rollouts']}, {policy['learning_rate']:g}"


def section(found: dict[str, Any]) -> str:
    lines = [
        "## What training on the reward makes of pairs (`benchmarks/optimised.py`, `benchmarks/optimised.json`)",
        "",
        f"Machine: {found['machine']}. First pairs of the initial policy → of the tuned one, and what a student of the",
        "tuned one's has over a student of the initial one's: nats, 95 % intervals over tasks, won : lost.",
        "",
        "| run | sound | reward, where both are | difference | words | distinct-2 | margin | content | end |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, one in found["runs"].items():
        moved = one["reward_difference"]
        cells = [
            f"{name}: {one['settings']}",
            _to(one["sound"], ".0%"),
            _to(one["reward"], "+.2f"),
            f"{moved['mean']:+.2f} ({moved['low']:.2f} to {moved['high']:.2f})",
            _to(one["words"], ".1f"),
            _to(one["distinct_2"], ".2f"),
            *(one["gains"][figure] for figure in ("margin", "content", "end")),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _to(values: dict[str, float], form: str) -> str:
    return " → ".join(format(values[policy], form) for policy in POLICIES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--trainings", type=int, default=1)
    parser.add_argument("--questions", type=Path, default=TASKS, help="the tasks that students are measured by")
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    given = parser.parse_args()
    quiet_libraries()
    found: dict[str, Any] = {"machine": machine(), "runs": {}}
    try:
        with tempfile.TemporaryDirectory(prefix="refine-af-") as scratch:
            parts = Parts(student_config(given.threads), Path(scratch))
            questions = of_tasks(parts, given.questions, tasks=99, instances=4)
            for run in given.runs:
                students = Students(parts, questions, run / "optimised.jsonl", say)
                made = looked_at(run, students, given.trainings, given.threads)
                found["runs"][run.name] = {"settings": settings_of(run), **made}
    except RefineError as error:
        sys.exit(f"{error}")
    RESULTS.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    write_section("optimised", "optimised.py", section(found))
    print(section(found))


if __name__ == "__main__":
    main()
