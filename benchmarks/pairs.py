"""What the pairs of the embedded preset are like: inputs, hollow pairs, what could not be read, topics taken over from
demonstrations, time; with the model's chat template and without it.

    python benchmarks/pairs.py --work FOLDER [--seeds 0 1 2] [--set key=value ...] [--from FOLDER ...]

Runs the preset up to its pairs in FOLDER, goes on where it stopped, measures the runs' databases, and writes pairs.json
beside and the section in docs/benchmarks.md. ``--from`` measures runs that are there.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from section import write_section

from refine_af.config import Config
from refine_af.parts import Parts
from refine_af.progress import Silent
from refine_af.prompts.pairs import turn_task, turns_of
from refine_af.prompts.pointing import points_at
from refine_af.records import Instance, Instruction, derived_random
from refine_af.run import open_run
from refine_af.stages.context import Context
from refine_af.stages.demonstrations import Shown
from refine_af.stages.pairs import PairWriter, distinct_bigrams
from refine_af.store import Store

TEMPLATES = ("auto", "none")
NAMES = {
    "selected": "pairs selected",
    "with_input": "with an input",
    "needed_and_there": "of those said to need one, with an input",
    "hollow": "hollow: points at an input that isn't there",
    "at_floor": "at the reward's floor, or with a failed gate",
    "cut": "cut by length, of what was written",
    "empty": "empty, of what was written",
    "by_rule": "dropped by a named rule, of what was written",
    "topic": "outputs with a rare word of their demonstrations",
    "topic_by_chance": "the same with demonstrations shuffled",
    "distinct_2": "distinct-2 of the outputs selected",
    "words": "words of an output",
    "seconds_a_pair": "seconds of the stage for a selected pair",
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--work", type=Path, required=True)
    arguments.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments.add_argument("--templates", nargs="+", choices=TEMPLATES, default=list(TEMPLATES))
    arguments.add_argument("--set", action="append", default=[], dest="settings")
    chosen = arguments.parse_args()
    rows = []
    for template in chosen.templates:
        for seed in chosen.seeds:
            folder = chosen.work / f"{template}-{seed}"
            settings = [f"seed={seed}", f"model.chat_template={template}", *chosen.settings]
            command = [sys.executable, "-m", "refine_af", "run", "--preset", "embedded", "--out", str(folder)]
            command += ["--until", "instances", *(part for one in settings for part in ("--set", one))]
            subprocess.run(command, check=True)
            rows.append({"template": template, "seed": seed, **measured(folder)})
            print(json.dumps(rows[-1]))
    found = {
        "runs": rows,
        "settings": chosen.settings,
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
        "python": platform.python_version(),
    }
    Path(__file__).with_name("pairs.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    write_section("pairs", "pairs.py", section(found))


def measured(folder: Path) -> dict[str, Any]:
    """Shares are in [0, 1]; those of what was written count both policies' completions."""
    with open_run(folder) as store, tempfile.TemporaryDirectory() as scratch:
        config = Config.model_validate(store.run_config())
        writer = PairWriter(Context(config, store, folder, Parts(config, Path(scratch)), Silent()))
        instructions = {i.id: i for i in store.instructions(origin="generated")}
        selected = store.instances(selected=True)
        [stage] = store.query("SELECT read, finished_at - started_at AS seconds FROM stages WHERE name = 'instances'")
        reasons = store.rejection_reasons("instances")
        empty = sum(count for reason, count in reasons.items() if reason.startswith("empty"))
        no_rule = ("duplicate", "matches an evaluation task", "cut by length")
        ruled = sum(count for reason, count in reasons.items() if reason not in no_rule) - empty
        need = [i for i in selected if instructions[i.instruction_id].needs_input]
        hollow = [i for i in selected if not i.input and points_at(instructions[i.instruction_id].text)]
        return {
            "selected": len(selected),
            "with_input": share(i.input != "" for i in selected),
            "needed_and_there": share(i.input != "" for i in need),
            "hollow": len(hollow) / len(selected),
            "at_floor": share(not i.sound for i in selected),
            "cut": reasons.get("cut by length", 0) / stage["read"],
            "empty": empty / stage["read"],
            "by_rule": ruled / stage["read"],
            **_topics(writer, store, instructions),
            "distinct_2": distinct_bigrams([i.output for i in selected]),
            "words": fmean(len(i.output.split()) for i in selected),
            "seconds_a_pair": stage["seconds"] / len(selected),
            "dropped": reasons,
            "unsound": sum(not i.sound for i in store.instances() if i.policy != "seed"),
        }


def share(flags: Any) -> float:
    values = list(flags)
    return sum(values) / len(values) if values else 0.0


def _topics(writer: PairWriter, store: Store, instructions: dict[str, Instruction]) -> dict[str, float]:
    """Over all pairs that could be read, selected or not."""
    pairs = [i for i in store.instances() if i.policy != "seed"]
    shown = [_shown(writer, instructions[one.instruction_id], one) for one in pairs]
    others = list(shown)
    derived_random(0, "shuffled demonstrations").shuffle(others)

    def taken(sets: Sequence[Shown]) -> float:
        return share(
            bool(writer.topics.taken_over(one.output, f"{instructions[one.instruction_id].text}\n{one.input}", tasks))
            for one, tasks in zip(pairs, sets, strict=True)
        )

    return {"topic": taken(shown), "topic_by_chance": taken(others)}


def _shown(writer: PairWriter, instruction: Instruction, pair: Instance) -> Shown:
    """All tasks that stood before a pair's turns."""
    turns = turns_of(needs_input=bool(pair.input), is_classification=bool(instruction.is_classification))
    found: list[Any] = []
    for turn in turns:
        asked = turn_task(turn, instruction.text, input=pair.input, label=pair.output)
        found += writer.demonstrations.of(turn, instruction.text, asked)
    return tuple(found)


def section(found: dict[str, Any]) -> str:
    runs = found["runs"]
    heads = [f"{'chat template' if r['template'] == 'auto' else 'plain headings'}, seed {r['seed']}" for r in runs]
    lines = [
        f"Embedded preset up to its pairs, both policies. Machine: {found['machine']}, Python {found['python']}."
        + (f" Settings: {', '.join(found['settings'])}." if found["settings"] else ""),
        "",
        f"| | {' | '.join(heads)} |",
        f"|---|{'---|' * len(runs)}",
    ]
    counts = {"selected", "words", "seconds_a_pair", "distinct_2"}
    for key, name in NAMES.items():
        cells = [f"{r[key]:.2f}".rstrip("0").rstrip(".") if key in counts else f"{r[key]:.1%}" for r in runs]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
