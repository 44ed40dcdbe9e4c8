"""Does a signal see what readers see? How often it scores the pair higher that blind readers preferred.

    python benchmarks/agreement.py --work DIR [--threads 0]

Readers' votes are those of preference.json, made by preference.py: two pairs of one instruction each, without the rows
on which readers themselves were tested. A row on which the readers are of two minds is left out; 50 % is chance. Scores
are kept in the folder, so that the same command goes on. Writes agreement.json beside and the section in
docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import pstdev
from typing import Any

from feedback import machine
from preference import read_sheets
from section import write_section

from refine_af.config import load_config
from refine_af.environment import quiet_libraries
from refine_af.evaluation.significance import sign_test, wilson_interval
from refine_af.feedback.base import Example
from refine_af.feedback.judging import judge_all
from refine_af.parts import Parts
from refine_af.progress import Lines
from refine_af.seeds import load_seeds
from refine_af.store import Store

RESULTS = Path(__file__).with_suffix(".json")
_INFLUENCE = {
    d: {"use": "influence", "direction": d, "weight": 1, "calibrated": False}
    for d in ("contrastive", "plain", "content")
}
_OTHERS = ("likelihood", "pmi", "relevance", "judge", "own_words", "length")
SCORERS = _INFLUENCE | {name: {"weight": 1, "calibrated": False} for name in _OTHERS}
SUMS = (  # standardised over the rows
    ("contrastive", "content"),
    ("contrastive", "plain"),
    ("contrastive", "likelihood"),
    ("contrastive", "relevance"),
    ("contrastive", "likelihood", "relevance"),
    ("contrastive", "content", "likelihood"),
)

KINDS = ("choosing", "training", "both")
Row = Mapping[str, Any]


def measured(pairs: Sequence[Example], work: Path, threads: int) -> list[Mapping[str, float]]:
    """What each signal says of each pair, without gates."""
    settings = [f"threads={threads}", "feedback.name=composite", f"feedback.scorers={json.dumps(SCORERS)}"]
    config = load_config(preset="embedded", overrides=settings)
    people = [Example(t.instruction, t.input, t.output) for t in load_seeds(None).tasks]
    with Store(work / "scores.db") as memory:
        reward = Parts(config, work).feedback(people[: config.feedback.calibrated_on], memory)
        return [judged.components for judged in judge_all(reward, pairs, Lines(), "pairs")]


def agreement(rows: Sequence[Row], score: Callable[[Row], float]) -> dict[str, Any]:
    """Of the decided rows; a tie of the signal's is half a hit."""
    hits = ties = 0
    decided = [row for row in rows if sum(row["votes"])]
    for row in decided:
        difference = score(row["ours"]) - score(row["other"])
        ties += difference == 0
        hits += difference != 0 and (difference > 0) == (sum(row["votes"]) > 0)
    misses = len(decided) - ties - hits
    found = {"decided": len(decided), "share": (hits + ties / 2) / len(decided)}
    return found | {"interval": wilson_interval(hits, hits + misses), "p": sign_test(hits, misses)}


def section(found: dict[str, Any]) -> str:
    decided = next(iter(found["signals"].values()))["all"]["decided"]
    lines = [
        "## Signals and readers (`benchmarks/agreement.py`, `benchmarks/agreement.json`)",
        "",
        f"Machine: {found['machine']}. Of {decided} rows of the blind preferences above on which the readers decided,",
        "the share in which a signal scores the preferred pair higher; sums are of standard scores.",
        "",
        "| signal | agrees (95 %, Wilson) | sign test | choosing | training | both |",
        "|---|---|---|---|---|---|",
    ]
    for name, by in sorted(found["signals"].items(), key=lambda one: -one[1]["all"]["share"]):
        low, high = by["all"]["interval"]
        cells = [f"{by['all']['share']:.0%} ({low:.0%} to {high:.0%})", f"p = {by['all']['p']:.2g}"]
        cells += [f"{by[kind]['share']:.0%}" for kind in KINDS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=0)
    given = parser.parse_args()
    quiet_libraries()
    given.work.mkdir(parents=True, exist_ok=True)
    rows = [row for sheet in read_sheets() for row in sheet["rows"] if row["comparison"].startswith(KINDS)]
    pairs = list(dict.fromkeys(Example(**row[side]) for row in rows for side in ("ours", "other")))
    values = dict(zip(pairs, measured(pairs, given.work, given.threads), strict=True))
    spreads = {name: pstdev(one[name] for one in values.values()) for name in SCORERS}
    signals = {name: _sum(values, {name: 1.0}) for name in SCORERS}
    signals["short"] = _sum(values, {"length": -1.0})
    signals |= {" + ".join(names): _sum(values, {name: 1 / spreads[name] for name in names}) for names in SUMS}
    of = {"all": rows} | {kind: [row for row in rows if row["comparison"].startswith(kind)] for kind in KINDS}
    found = {
        "machine": machine(),
        "signals": {name: {k: agreement(some, score) for k, some in of.items()} for name, score in signals.items()},
    }
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    write_section("agreement", "agreement.py", section(found))
    print(section(found))


def _sum(values: Mapping[Example, Mapping[str, float]], weights: Mapping[str, float]) -> Callable[[Row], float]:
    return lambda pair: sum(values[Example(**pair)][name] * weight for name, weight in weights.items())


if __name__ == "__main__":
    main()
