"""Writes the selected instances as Parquet and JSONL with a card. Files are made anew from the rows each time."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from refine_af.config import Config
from refine_af.files import write_text
from refine_af.store import Store


def dataset_rows(store: Store) -> list[dict[str, Any]]:
    """The selected instances, each with its instruction, reward, scores and where it came from."""
    instructions = {i.id: i for i in store.instructions()}
    rows = []
    for instance in store.instances(selected=True):
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


def write_dataset(store: Store, folder: Path, config: Config) -> None:
    """train.parquet, train.jsonl and README.md in ``folder``; each appears whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = dataset_rows(store)
    temporary = folder / ".train.parquet"
    pq.write_table(pa.Table.from_pylist(rows), temporary)
    os.replace(temporary, folder / "train.parquet")
    lines = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows)
    write_text(folder / "train.jsonl", lines)
    instructions = store.instructions(origin="generated", status="kept")
    write_text(folder / "README.md", _card(rows, config, config.candidates(len(instructions))))


# The Hub's classes of size, by their upper bounds.
_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))


def _card(rows: list[dict[str, Any]], config: Config, candidates: int) -> str:
    size = next((name for bound, name in _SIZES if len(rows) < bound), "10M<n<100M")
    policy = rows[0]["policy"] if rows else "none"
    example = json.dumps(rows[0], ensure_ascii=False, indent=2) if rows else "{}"
    return f"""---
language: en
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
