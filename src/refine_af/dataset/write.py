"""Writes chosen instances as Parquet and JSONL with a card. Files are made anew from the rows each time."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from refine_af.config import Config
from refine_af.files import write_text
from refine_af.records import Instance
from refine_af.store import Store


def dataset_rows(store: Store, instances: Iterable[Instance]) -> list[dict[str, Any]]:
    """The instances, each with its instruction, reward, scores and where it came from."""
    instructions = {i.id: i for i in store.instructions()}
    rows = []
    for instance in instances:
        instruction = instructions[instance.instruction_id]
        rows.append(
            {
                "id": instance.id,
                "instruction": instruction.text,
                "input": instance.input,
                "output": instance.output,
                "reward": instance.reward,
                "scores": json.dumps(store.scores(instance.id), sort_keys=True),
                "is_classification": instruction.is_classification,
                "instruction_id": instruction.id,
                "model": instance.model,
                "policy": instance.policy,
            }
        )
    return rows


def write_dataset(rows: list[dict[str, Any]], folder: Path, config: Config, candidates: int) -> None:
    """train.parquet, train.jsonl and README.md in ``folder``; each appears whole or not at all.

    ``candidates``: completions of an instruction from which its rows were chosen.
    """
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / ".train.parquet"
    pq.write_table(pa.Table.from_pylist(rows), temporary)
    os.replace(temporary, folder / "train.parquet")
    lines = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows)
    write_text(folder / "train.jsonl", lines)
    write_text(folder / "README.md", _card(rows, config, candidates))


# The Hub's classes of size, by their upper bounds.
_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))


def _card(rows: list[dict[str, Any]], config: Config, candidates: int) -> str:
    size = next((name for bound, name in _SIZES if len(rows) < bound), "10M<n<100M")
    # Best-of-n chooses among the initial policy's pairs too.
    policy = max((r["policy"] for r in rows), key=["initial", "best_of_n", "tuned"].index, default="none")
    example = json.dumps(rows[0], ensure_ascii=False, indent=2) if rows else "{}"
    return f"""---
language: {json.dumps(config.language)}
size_categories: [{size}]
task_categories: [text-generation]
tags: [instruction-tuning, synthetic, refine-af]
configs:
- config_name: default
  data_files: train.parquet
---

# Instruction-tuning data by refine-af

{len(rows)} pairs for {len({r["instruction_id"] for r in rows})} instructions. All text was written by a model
({rows[0]["model"] if rows else config.model.name}, {policy} policy), prompted with seed tasks; no person checked it.

Each instruction had {candidates} candidate pairs. The best by the reward
`{config.feedback.name}` are here; `scores` holds what the reward was made of. A high reward is no proof that an
answer is right.

| column | what |
|---|---|
| id | content hash of policy, instruction, input and output |
| instruction, input, output | the pair; input may be empty |
| reward, scores | the reward, and its components as JSON |
| is_classification | the model's own guess of the instruction's kind |
| instruction_id, model, policy | where it came from |

```json
{example}
```
"""
