"""How often points_at is right: recall on the built-in seeds, precision among 100 of its hits that were read.

    python benchmarks/pointing.py [--data ../shared/data/instructions_open.jsonl.gz]

Writes pointing.json beside. It keeps the readers' marks, by the hash of an instruction's text: true where a text is
really missing from the instruction. Hits of the sample without a mark are printed, to be read, and not counted.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import random
import sys
from pathlib import Path

from refine_af.evaluation.significance import wilson_interval
from refine_af.prompts.pointing import points_at
from refine_af.seeds import load_seeds

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).with_suffix(".json")
SEED, READ = 2, 100


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--data", type=Path, default=ROOT.parent / "shared/data/instructions_open.jsonl.gz")
    given = arguments.parse_args()
    if not given.data.exists():
        sys.exit(f"{given.data} is not there; name the file of instructions with --data")
    with gzip.open(given.data, "rt", encoding="utf-8") as lines:
        texts = [json.loads(line)["instruction"] for line in lines]
    hits = [text for text in texts if points_at(text)]
    marks: dict[str, bool] = json.loads(RESULTS.read_text(encoding="utf-8"))["marks"] if RESULTS.exists() else {}
    sample = random.Random(SEED).sample(hits, READ)
    for text in sample:
        if key(text) not in marks:
            print("unread:", key(text), points_at(text), "|", text)
    read = {key(text): marks[key(text)] for text in sample if key(text) in marks}
    seeds = load_seeds(None).tasks
    found = {
        "instructions": len(texts),
        "hits": len(hits),
        "seeds_with_input": sum(bool(s.input) for s in seeds),
        "seeds_found": sum(points_at(s.instruction) is not None for s in seeds if s.input),
        "seeds_false": [s.instruction for s in seeds if not s.input and points_at(s.instruction)],
        "sample_seed": SEED,
        "read": len(read),
        "right": sum(read.values()),
        "precision": round(sum(read.values()) / len(read), 4) if read else None,
        "wilson": [round(end, 4) for end in wilson_interval(sum(read.values()), len(read))] if read else None,
    }
    print(json.dumps(found, indent=2))
    # Marks that the sample no longer holds stay: they were read all the same.
    RESULTS.write_text(json.dumps({**found, "marks": marks}, indent=2) + "\n", encoding="utf-8")


def key(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


if __name__ == "__main__":
    main()
