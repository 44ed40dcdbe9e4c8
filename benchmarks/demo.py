"""Times the embedded preset as a user runs it: wall time by stage, peak memory, what was kept.

    python benchmarks/demo.py [--seed 0] [--keep FOLDER] [--cache FOLDER]

Writes demo.json beside, the section in docs/benchmarks.md, and the first rows of the data set into the README.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from section import README, write_section

from refine_af.run import open_run


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--keep", type=Path, help="the run's folder, to be looked at afterwards")
    arguments.add_argument("--cache", type=Path, help="in place of an empty one: what is prepared there isn't timed")
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = chosen.keep or Path(temporary) / "run"
        # An empty cache: the model is de-quantised and converted as on a user's first run.
        environment = {**os.environ, "REFINE_AF_CACHE": str(chosen.cache or Path(temporary) / "cache")}
        command = [sys.executable, "-m", "refine_af", "run", "--preset", "embedded", "--out", str(folder)]
        started = time.perf_counter()
        subprocess.run([*command, "--set", f"seed={chosen.seed}"], check=True, env=environment)
        seconds = time.perf_counter() - started
        write_section("rows", "demo.py", excerpt(folder), README)
        found = measured(folder) | {
            "seed": chosen.seed,
            "prepared": chosen.cache is not None,
            "wall_seconds": round(seconds, 1),
            # Kilobytes on Linux, bytes on macOS.
            "peak_memory_gb": round(
                resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
                * (1 if sys.platform == "darwin" else 1024)
                / 1e9,
                2,
            ),
            "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
            "python": platform.python_version(),
        }
    target = Path(__file__).with_name("demo.json")
    target.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=2))
    write_section("demo", "demo.py", section(found))


def measured(folder: Path) -> dict[str, Any]:
    """What the run's database says of it."""
    with open_run(folder) as store:
        stages = {
            row["name"]: round(row["finished_at"] - row["started_at"], 1)
            for row in store.query("SELECT name, started_at, finished_at FROM stages ORDER BY started_at")
        }
        metrics = {
            row["name"]: round(row["value"], 3)
            for row in store.query("SELECT name, value FROM metrics WHERE step = 0 ORDER BY stage, name")
        }
        return {
            "stage_seconds": stages,
            "instructions_kept": len(store.instructions(origin="generated")),
            "iterations": len(store.metric("policy", "reward_mean")),
            "instances_selected": len(store.instances(selected=True)),
            "metrics": metrics,
            "versions": json.loads(store.scalar("SELECT versions FROM runs")),
        }


_SHOWN = 10


def excerpt(folder: Path) -> str:
    """The first rows of the data set, whatever they are like."""
    lines = (folder / "dataset" / "train.jsonl").read_text(encoding="utf-8").splitlines()[:_SHOWN]
    rows = [{key: json.loads(line)[key] for key in ("instruction", "input", "output")} for line in lines]
    shown = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    return f"```json\n{shown}\n```"


def section(found: dict[str, Any]) -> str:
    metrics, versions = found["metrics"], found["versions"]
    named = ", ".join(f"{name} {versions[name]}" for name in ("torch", "transformers", "trl", "peft", "ctranslate2"))

    def interval(name: str, digits: int) -> str:
        low, high = metrics[f"{name}_low"], metrics[f"{name}_high"]
        return f"{metrics[name]:+.{digits}f} | {low:+.{digits}f} to {high:+.{digits}f}"

    gigabytes = found["peak_memory_gb"]  # None of a run that was timed from outside
    memory = f"Peak memory {gigabytes} GB. " if gigabytes else ""
    lines = [
        f"Machine: {found['machine']}, no GPU, Python {found['python']}. Seed {found['seed']}. {named}.",
        "",
        "| stage | seconds |",
        "|---|---|",
        *(f"| {name} | {seconds} |" for name, seconds in found["stage_seconds"].items()),
        f"| **whole command** | **{found['wall_seconds']}** |",
        "",
        f"{memory}The model's preparation (about 25 s, once a machine) and the",
        "anchors' gradients (a minute or two, once for a model and its seeds) "
        + (
            "were in the cache, and are not in these times."
            if found["prepared"]
            else "are in *instructions* and in *policy*."
        ),
        "",
        "| what | value | 95 % interval |",
        "|---|---|---|",
        f"| instructions kept | {found['instructions_kept']} | |",
        f"| iterations of training | {found['iterations']} | |",
        f"| instances selected | {found['instances_selected']} | |",
        f"| held-out reward before | {metrics['held_out_before']:.3f} | |",
        f"| held-out reward after | {metrics['held_out_after']:.3f} | |",
        f"| difference | {interval('held_out_difference', 3)} |",
        f"| ROUGE-L base, held-out seed tasks | {metrics['base_rouge_l']:.2f} | |",
        f"| ROUGE-L tuned | {metrics['tuned_rouge_l']:.2f} | |",
        f"| difference | {interval('difference', 2)} |",
        f"| tasks won, tied, lost | {metrics['wins']:.0f}, {metrics['ties']:.0f}, {metrics['losses']:.0f} | |",
        f"| exact match, base and tuned | {metrics['base_exact_match']}, {metrics['tuned_exact_match']} | |",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
