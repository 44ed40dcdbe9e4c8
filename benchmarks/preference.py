"""Blind preferences between what a reward chooses and what chance chooses, instruction by instruction.

    python benchmarks/preference.py sheet RUN --to FOLDER [--reward NAME]
    python benchmarks/preference.py tally FOLDER READER.jsonl READER.jsonl

``sheet`` takes, of each instruction of a run, the initial policy's candidate that the reward would choose and one by
chance, where they differ, in an order of chance: sheet.jsonl for readers (number, instruction, first, second), and
key.json. A reader's file has a line for each number: {"number", "better": "first" | "second" | "tie"}, for the pair
that would be the better training example. ``tally`` writes preference.json beside this script and a section of
docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from reward_validity import REWARDS, pool_of
from section import write_section

from refine_af.environment import quiet_libraries
from refine_af.evaluation.significance import sign_test, wilson_interval
from refine_af.records import derived_random
from refine_af.validation.choices import by_chance, by_reward

RESULTS = Path(__file__).with_suffix(".json")
DEFAULT = next(iter(REWARDS))


def make_sheet(run: Path, folder: Path, reward: str, threads: int) -> None:
    pool = pool_of(run, threads)
    best, chance = by_reward(pool.judged_by(reward, threads)), by_chance(pool.groups, 0)
    rows = [(asdict(a), asdict(b)) for a, b in zip(best, chance, strict=True) if a != b]
    random = derived_random(pool.seed, "preference")
    random.shuffle(rows)
    folder.mkdir(parents=True, exist_ok=True)
    key, lines = [], []
    for number, pair in enumerate(rows, 1):
        names = ["best", "chance"]
        random.shuffle(names)
        shown = dict(zip(("best", "chance"), pair, strict=True))
        texts = [{k: shown[name][k] for k in ("input", "output")} for name in names]
        instruction = pair[0]["instruction"]
        key.append({"number": number, "first": names[0], "instruction": instruction, **shown})
        row = {"number": number, "instruction": instruction, "first": texts[0], "second": texts[1]}
        lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    (folder / "sheet.jsonl").write_text("".join(lines), encoding="utf-8")
    described = {"run": run.name, "reward": reward, "instructions": len(pool.groups), "rows": key}
    (folder / "key.json").write_text(json.dumps(described, indent=1, ensure_ascii=False), encoding="utf-8")
    print(f"{len(rows)} of {len(pool.groups)} instructions in {folder / 'sheet.jsonl'}")


def tallied(folder: Path, files: list[Path]) -> dict[str, Any]:
    """Won and lost by each reader, and by both: an instruction is won where more prefer the reward's pair."""
    key = json.loads((folder / "key.json").read_text(encoding="utf-8"))
    readers = []
    for file in files:
        lines = file.read_text(encoding="utf-8").splitlines()
        readers.append({row["number"]: row["better"] for row in map(json.loads, lines)})
    for row in key["rows"]:
        row["votes"] = [_vote(row, reader[row["number"]]) for reader in readers]
    votes = [row["votes"] for row in key["rows"]]
    by_reader = [_counted([vote[k] for vote in votes]) for k in range(len(readers))]
    agree = sum(len(set(vote)) == 1 for vote in votes) / len(votes)
    return {**key, "readers": by_reader, "together": _counted([sum(vote) for vote in votes]), "agree": agree}


def _vote(row: dict[str, Any], better: str) -> int:
    """1 for the reward's pair, -1 for chance's."""
    if better == "tie":
        return 0
    return 1 if (better == "first") == (row["first"] == "best") else -1


def _counted(votes: list[int]) -> dict[str, Any]:
    won, lost = sum(v > 0 for v in votes), sum(v < 0 for v in votes)
    interval = wilson_interval(won, won + lost)
    return {"won": won, "tied": len(votes) - won - lost, "lost": lost, "interval": interval, "p": sign_test(won, lost)}


def section(found: dict[str, Any]) -> str:
    lines = [
        "## Blind preferences (`benchmarks/preference.py`, `benchmarks/preference.json`)",
        "",
        f"Of {found['instructions']} instructions (run {found['run']}) the pair that {found['reward']} chooses out of",
        f"the initial policy's candidates, and one by chance: {len(found['rows'])} differ. Two readers said of each,",
        "knowing neither, which would be the better training example. They agree on",
        f"{found['agree']:.0%}.",
        "",
        "| reader | the reward's | tied | chance's | share of the decided (95 %, Wilson) | sign test |",
        "|---|---|---|---|---|---|",
    ]
    named = {str(number): one for number, one in enumerate(found["readers"], 1)} | {"together": found["together"]}
    for name, one in named.items():
        share = one["won"] / (one["won"] + one["lost"])
        low, high = one["interval"]
        shown = f"{share:.0%} ({low:.0%} to {high:.0%}) | p = {one['p']:.2g}"
        lines.append(f"| {name} | {one['won']} | {one['tied']} | {one['lost']} | {shown} |")
    return "\n".join(lines)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = arguments.add_subparsers(dest="command", required=True)
    sheet = commands.add_parser("sheet")
    sheet.add_argument("run", type=Path)
    sheet.add_argument("--to", type=Path, required=True)
    sheet.add_argument("--reward", choices=REWARDS, default=DEFAULT)
    sheet.add_argument("--threads", type=int, default=0)
    tally = commands.add_parser("tally")
    tally.add_argument("folder", type=Path)
    tally.add_argument("readers", type=Path, nargs="+")
    given = arguments.parse_args()
    quiet_libraries()
    if given.command == "sheet":
        make_sheet(given.run, given.to, given.reward, given.threads)
        return
    found = tallied(given.folder, given.readers)
    RESULTS.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    write_section("blind preferences", "preference.py", section(found))
    print(section(found))


if __name__ == "__main__":
    main()
