"""Blind preferences between the pairs of two arms, instruction by instruction.

    python benchmarks/preference.py sheet RUN [RUN ...] --to FOLDER [--pairs 50]
    python benchmarks/preference.py tally FOLDER READER.jsonl READER.jsonl

A run is one that has trained its policy and has its pairs (`--until instances`); several are several policies.
``sheet`` draws, for each of :data:`COMPARISONS`, so many instructions whose two pairs differ (all where fewer do), as
many of each run, and shows both in an order of chance: sheet.jsonl for readers (number, instruction, first, second),
and key.json. Among them is a fifth as many of each of :data:`CONTROLS`, nonsense that tells whether a reader reads. A
reader's file has a line for each number: {"number", "better": "first" | "second" | "tie"}, for the pair that would be
the better training example. ``tally`` adds the sheet to preference.json beside this script, or puts it in the place of
one of the same runs, and writes the section of docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from optimised import ARMS, CONTROL, data_sets
from section import write_section

from refine_af.config import Arm
from refine_af.environment import quiet_libraries
from refine_af.errors import UsageError
from refine_af.evaluation.significance import sign_test, wilson_interval
from refine_af.records import derived_random
from refine_af.validation.choices import LAST_WORD, SHUFFLED, last_words, shuffled

RESULTS = Path(__file__).with_suffix(".json")
TODAY = ("c0", "c1", "c2")  # policies of today's default, a seed each, their instructions their own
CHANCE = Arm(name="chance", policy="initial", choose="chance")
COMPARISONS = {  # the arm that ought to be better, and the other one
    "choosing: the initial policy's best against one of its pairs by chance": ("initial", "chance"),
    "training: the tuned policy's first pair against the initial policy's": ("tuned_first", CONTROL),
    "both: the tuned policy's best against the initial policy's first pair": ("tuned", CONTROL),
}


CONTROLS = {
    "control: the tuned policy's best against another instruction's answer": ("tuned", SHUFFLED),
    "control: the tuned policy's best against its last word alone": ("tuned", LAST_WORD),
}


def make_sheet(runs: list[Path], folder: Path, pairs_each: int) -> None:
    rows: list[dict[str, Any]] = []
    for run in runs:
        pairs, _ = data_sets(run, (*ARMS, CHANCE))
        pairs |= {SHUFFLED: shuffled(pairs["tuned"], 0), LAST_WORD: last_words(pairs["tuned"])}
        for name, (ours, other) in (COMPARISONS | CONTROLS).items():
            differ = [both for both in zip(pairs[ours], pairs[other], strict=True) if both[0] != both[1]]
            wanted = min(pairs_each // len(runs) // (5 if name in CONTROLS else 1), len(differ))
            drawn = derived_random(0, "preference", run.name, name).sample(differ, wanted)
            rows += [
                {"comparison": name, "run": run.name, "ours": asdict(better), "other": asdict(rival)}
                for better, rival in drawn
            ]
    random = derived_random(0, "preference")
    random.shuffle(rows)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "sheet.jsonl").open("w", encoding="utf-8") as file:
        for number, row in enumerate(rows, 1):
            sides = ["ours", "other"]
            random.shuffle(sides)
            row |= {"number": number, "first": sides[0]}
            shown: dict[str, Any] = {"number": number, "instruction": row["ours"]["instruction"]}
            for place, side in zip(("first", "second"), sides, strict=True):
                shown[place] = {name: row[side][name] for name in ("input", "output")}
            file.write(json.dumps(shown, ensure_ascii=False) + "\n")
    described = {"runs": [run.name for run in runs], "rows": rows}
    (folder / "key.json").write_text(json.dumps(described, indent=1, ensure_ascii=False), encoding="utf-8")
    print(f"{len(rows)} rows in {folder / 'sheet.jsonl'}")


def tallied(folder: Path, files: list[Path]) -> dict[str, Any]:
    """Won and lost by each reader, and by both: an instruction is won where more prefer our arm's pair."""
    key = json.loads((folder / "key.json").read_text(encoding="utf-8"))
    readers = [marks(file, len(key["rows"])) for file in files]
    found = {}
    for row in key["rows"]:
        row["votes"] = [_vote(row, reader[row["number"]]) for reader in readers]
    for name in sorted({row["comparison"] for row in key["rows"]}):
        votes = [row["votes"] for row in key["rows"] if row["comparison"] == name]
        by_reader = [_counted([vote[k] for vote in votes]) for k in range(len(readers))]
        agree = sum(len(set(vote)) == 1 for vote in votes) / len(votes)
        found[name] = {"readers": by_reader, "together": _counted([sum(vote) for vote in votes]), "agree": agree}
    return {"runs": key["runs"], "comparisons": found, "rows": key["rows"]}


def marks(file: Path, count: int) -> dict[int, str]:
    """What a reader said of each number. Raises UsageError where a number is missing or a word is another."""
    said = {row["number"]: row["better"] for row in map(json.loads, file.read_text(encoding="utf-8").splitlines())}
    if wrong := [n for n in range(1, count + 1) if said.get(n) not in ("first", "second", "tie")]:
        raise UsageError(f"{file} says neither first, second nor tie of number {wrong[0]}")
    return said


def _vote(row: dict[str, Any], better: str) -> int:
    """1 for our arm's pair, -1 for the other's."""
    if better == "tie":
        return 0
    return 1 if (better == "first") == (row["first"] == "ours") else -1


def _counted(votes: list[int]) -> dict[str, Any]:
    won, lost = sum(v > 0 for v in votes), sum(v < 0 for v in votes)
    interval = wilson_interval(won, won + lost)
    return {"won": won, "tied": len(votes) - won - lost, "lost": lost, "interval": interval, "p": sign_test(won, lost)}


def section(sheets: list[dict[str, Any]]) -> str:
    lines = [
        "## Blind preferences (`benchmarks/preference.py`, `benchmarks/preference.json`)",
        "",
        "Of instructions two pairs each. Two readers said, knowing neither, which is the better training example.",
        *pooled([sheet for sheet in sheets if set(sheet["runs"]) <= set(TODAY)]),
    ]
    for sheet in sheets:
        lines += [
            "",
            f"| {', '.join(sheet['runs'])} | reader | preferred | tied | the other | share (95 %, Wilson) | p |",
            "|---|---|---|---|---|---|---|",
        ]
        for title, of in sheet["comparisons"].items():
            named = {str(number): one for number, one in enumerate(of["readers"], 1)} | {"together": of["together"]}
            for name, one in named.items():
                low, high = one["interval"]
                shown = f"{_share(one)} ({low:.0%} to {high:.0%}) | {one['p']:.2g}"
                lines.append(f"| {title} | {name} | {one['won']} | {one['tied']} | {one['lost']} | {shown} |")
                title = f"they agree on {of['agree']:.0%}" if name == "1" else ""
    return "\n".join(lines)


def pooled(sheets: list[dict[str, Any]]) -> list[str]:
    """The policies of today's default in one table, readers together."""
    named = ", ".join(name for sheet in sheets for name in sheet["runs"])
    lines = [
        "",
        f"| today's default: {named} | preferred | tied | the other | share (95 %, Wilson) | p | by policy |",
        "|---|---|---|---|---|---|---|",
    ]
    for title in (*COMPARISONS, *CONTROLS):
        votes = [[sum(row["votes"]) for row in sheet["rows"] if row["comparison"] == title] for sheet in sheets]
        each = ", ".join(_share(_counted(some)) for some in votes)
        one = _counted([vote for some in votes for vote in some])
        low, high = one["interval"]
        shown = f"{_share(one)} ({low:.0%} to {high:.0%}) | {one['p']:.2g} | {each}"
        lines.append(f"| {title} | {one['won']} | {one['tied']} | {one['lost']} | {shown} |")
    return lines


def _share(counted: dict[str, Any]) -> str:
    return f"{counted['won'] / (counted['won'] + counted['lost']):.0%}"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = arguments.add_subparsers(dest="command", required=True)
    sheet = commands.add_parser("sheet")
    sheet.add_argument("runs", type=Path, nargs="+")
    sheet.add_argument("--to", type=Path, required=True)
    sheet.add_argument("--pairs", type=int, default=50, help="of a comparison")
    tally = commands.add_parser("tally")
    tally.add_argument("folder", type=Path)
    tally.add_argument("readers", type=Path, nargs="+")
    given = arguments.parse_args()
    quiet_libraries()
    if given.command == "sheet":
        make_sheet(given.runs, given.to, given.pairs)
        return
    found = tallied(given.folder, given.readers)
    sheets = [one for one in read_sheets() if one["runs"] != found["runs"]] + [found]
    RESULTS.write_text(json.dumps({"sheets": sheets}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    write_section("blind preferences", "preference.py", section(sheets))
    print(section(sheets))


def read_sheets() -> list[dict[str, Any]]:
    """All that were tallied, each with its rows and the readers' votes."""
    sheets: list[dict[str, Any]] = json.loads(RESULTS.read_text(encoding="utf-8"))["sheets"]
    return sheets


if __name__ == "__main__":
    main()
