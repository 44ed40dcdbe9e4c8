"""A blind reading of pairs: a shuffled sheet for readers who know neither version nor purpose, and their marks.

    python benchmarks/reading.py sheet --version new=RUN,RUN,RUN --version old=RUN,RUN,RUN --to FOLDER [--pairs 60]
    python benchmarks/reading.py sheet --version best=PAIRS.jsonl --version chance=PAIRS.jsonl --to FOLDER
    python benchmarks/reading.py greedy FOLDER --version new --to FOLDER
    python benchmarks/reading.py tally FOLDER READER.jsonl READER.jsonl [--as reading | greedy | choice | openers]

``sheet`` draws selected pairs of runs, or pairs of files, as many of each version, evenly, shuffles them, and writes
sheet.jsonl (number, instruction, input, output) and key.json. ``greedy`` makes one of the greedy answers to a sheet's
prompts of a version, and to the held-out seed tasks, which people wrote: what the model can do at its best. A reader's
file has a line for each number: {"number", "task", "input", "answer", "language"}, marks of 0 or 1. ``tally`` adds the
rows with their marks to reading.json, or another of that name, in place of those of the same runs, and writes the table
of all into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from section import write_section
from students import read_pairs

from refine_af.config import SamplingConfig, load_config
from refine_af.engines.base import Prompts, Stop
from refine_af.evaluation.significance import wilson_interval
from refine_af.feedback.base import Example
from refine_af.parts import Parts
from refine_af.prompts.answers import answer_frame, asked
from refine_af.records import derived_random
from refine_af.run import open_run
from refine_af.seeds import choose_held_out, load_seeds
from refine_af.stages.demonstrations import Demonstrations

LONGEST_OF_PEOPLE = 120  # words of a seed task, pair included

MARKS = {
    "task": "a person could sensibly ask it, and it can be understood by itself with its input",
    "input": "there and fitting where one is needed, none where not",
    "answer": "does what was asked; not plainly false; a genuine attempt where the task is open",
    "language": "grammatical, complete, not garbled",
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    commands = arguments.add_subparsers(dest="command", required=True)
    sheet = commands.add_parser("sheet")
    sheet.add_argument("--version", action="append", required=True, help="NAME=RUN,RUN,… or NAME=FILE.jsonl,…")
    sheet.add_argument("--to", type=Path, required=True)
    sheet.add_argument("--pairs", type=int, default=60, help="of a version")
    tally = commands.add_parser("tally")
    tally.add_argument("folder", type=Path)
    tally.add_argument("readers", type=Path, nargs="+")
    tally.add_argument("--as", choices=("reading", "greedy", "choice", "openers"), default="reading", dest="kind")
    greedy = commands.add_parser("greedy")
    greedy.add_argument("folder", type=Path, help="of the sheet whose prompts are answered")
    greedy.add_argument("--version", required=True)
    greedy.add_argument("--to", type=Path, required=True)
    chosen = arguments.parse_args()
    if chosen.command == "sheet":
        make_sheet([one.split("=", 1) for one in chosen.version], chosen.to, chosen.pairs)
    elif chosen.command == "greedy":
        make_greedy_sheet(chosen.folder, chosen.version, chosen.to)
    else:
        name = "reading" if chosen.kind == "reading" else f"reading_{chosen.kind}"
        target = Path(__file__).with_name(f"{name}.json")
        marked = marked_rows(chosen.folder, [read_marks(path) for path in chosen.readers])
        here = {row["run"] for row in marked}
        before = json.loads(target.read_text(encoding="utf-8"))["rows"] if target.exists() else []
        found = tallied([row for row in before if row["run"] not in here] + marked)
        target.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(section(found, target.name))
        write_section(name.replace("_", " "), "reading.py", section(found, target.name))


def make_sheet(versions: list[list[str]], folder: Path, pairs_each: int) -> None:
    rows: list[dict[str, str]] = []
    for name, runs in versions:
        each = pairs_each // len(runs.split(","))
        for run in runs.split(","):
            pairs = read_pairs(Path(run)) if run.endswith(".jsonl") else selected(Path(run))
            derived_random(0, "reading", name).shuffle(pairs)
            rows += [{"version": name, "run": Path(run).name, **asdict(pair)} for pair in pairs[:each]]
    write_sheet(rows, folder)


def selected(run: Path) -> list[Example]:
    with open_run(run) as store:
        texts = {i.id: i.text for i in store.instructions()}
        return [Example(texts[p.instruction_id], p.input, p.output) for p in store.instances(selected=True)]


def make_greedy_sheet(source: Path, version: str, folder: Path) -> None:
    """Answers behind the embedded preset's demonstrations, as it asks for them, but greedily."""
    rows = json.loads((source / "key.json").read_text(encoding="utf-8"))
    ours = [(row["instruction"], row["input"]) for row in rows if row["version"] == version]
    config = load_config(preset="embedded")
    tasks = load_seeds(None).tasks
    held_out = set(choose_held_out(tasks, config.seeds.held_out, config.seed))
    people = [(t.instruction, t.input) for t in tasks if t.id in held_out and t.words() <= LONGEST_OF_PEOPLE]
    shown = [t for t in tasks if t.id not in held_out]
    with tempfile.TemporaryDirectory() as scratch:
        parts = Parts(config, Path(scratch))
        demonstrations = Demonstrations(shown, config, is_chat=parts.dialect.is_chat)
        groups = []
        for instruction, input in (*ours, *people):
            request = asked(instruction, input)
            some = demonstrations.of("answer to input" if input else "answer", instruction, request)
            frame = answer_frame(parts.dialect, some, config.instances.system)
            groups.append(Prompts(frame.before, (request + frame.after,)))
        sampling = SamplingConfig(max_tokens=config.instances.sampling.max_tokens, temperature=0)
        made = parts.initial_engine.generate(groups, sampling, seed=0, stop=Stop())
    versions = [f"{version}, greedy"] * len(ours) + ["people's tasks, greedy"] * len(people)
    answered = [
        {"version": name, "instruction": instruction, "input": input, "output": one.text.strip()}
        for name, (instruction, input), [one] in zip(versions, (*ours, *people), made, strict=True)
    ]
    write_sheet(answered, folder)


def write_sheet(rows: list[dict[str, str]], folder: Path) -> None:
    derived_random(0, "reading").shuffle(rows)
    folder.mkdir(parents=True, exist_ok=True)
    shown = ("instruction", "input", "output")
    lines = [json.dumps({"number": n} | {k: r[k] for k in shown}, ensure_ascii=False) for n, r in enumerate(rows, 1)]
    (folder / "sheet.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "key.json").write_text(json.dumps(rows, indent=1, ensure_ascii=False), encoding="utf-8")
    print(f"{len(rows)} pairs in {folder / 'sheet.jsonl'}")


def read_marks(path: Path) -> dict[int, dict[str, int]]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return {row["number"]: {mark: int(row[mark]) for mark in MARKS} for row in rows}


def marked_rows(folder: Path, readers: list[dict[int, dict[str, int]]]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((folder / "key.json").read_text(encoding="utf-8"))
    for number, row in enumerate(rows, 1):
        row["marks"] = [reader[number] for reader in readers]
    return rows


def tallied(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Of each version the shares that the first reader of a row marked, and the second; usable is all four marks."""
    shares = {}
    for version in sorted({row["version"] for row in rows}):
        mine = [row for row in rows if row["version"] == version]
        usable = [[all(marks.values()) for marks in row["marks"]] for row in mine]
        by_mark = {
            mark: [fmean(row["marks"][reader][mark] for row in mine) for reader in range(len(mine[0]["marks"]))]
            for mark in MARKS
        }
        both = sum(all(flags) for flags in usable)
        shares[version] = {
            "rows": len(mine),
            **by_mark,
            "usable": [fmean(flags) for flags in zip(*usable, strict=True)],
            "usable_by_all": both / len(mine),
            "usable_by_all_interval": wilson_interval(both, len(mine)),
        }
    agree = sum(len({all(m.values()) for m in row["marks"]}) == 1 for row in rows) / len(rows)
    return {"shares": shares, "readers_agree": agree, "rows": rows}


def section(found: dict[str, Any], file: str) -> str:
    shares = found["shares"]
    sizes = ", ".join(f"{one['rows']} pairs of {name}" for name, one in shares.items())
    lines = [
        "Marks by two readers who knew neither version nor purpose, each by itself; "
        f"{sizes}, shuffled. "
        f"On *usable* they agree in {found['readers_agree']:.0%} of the pairs. The rows with their marks: "
        f"`benchmarks/{file}`.",
        "",
        f"| mark | {' | '.join(shares)} |",
        f"|---|{'---|' * len(shares)}",
    ]
    for mark, meaning in MARKS.items():
        cells = [", ".join(f"{share:.0%}" for share in one[mark]) for one in shares.values()]
        lines.append(f"| *{mark}*: {meaning} | {' | '.join(cells)} |")
    cells = [", ".join(f"{share:.0%}" for share in one["usable"]) for one in shares.values()]
    lines.append(f"| **usable**: all four | {' | '.join(cells)} |")
    both = [
        f"{one['usable_by_all']:.0%} ({one['usable_by_all_interval'][0]:.0%} to {one['usable_by_all_interval'][1]:.0%})"
        for one in shares.values()
    ]
    lines.append(f"| usable by both (95 % interval of Wilson) | {' | '.join(both)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
