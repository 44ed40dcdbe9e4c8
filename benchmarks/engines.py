"""The engines beside one another on a CPU: tokens a second, and how far rounding takes them from the model.

    python benchmarks/engines.py

Writes engines.json beside and the section in docs/benchmarks.md. The embedded model; prompts as the stage of instances
has them, behind 0, 2 or 6 demonstrations; all engines in turn in one process.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from feedback import machine
from section import write_section

from refine_af.config import Config, SamplingConfig, load_config
from refine_af.engines.base import Engine, Prompts
from refine_af.parts import Parts
from refine_af.prompts.answers import answer_frame
from refine_af.seeds import load_seeds

RESULTS = Path(__file__).with_suffix(".json")
REPETITIONS = 3
SAMPLING = SamplingConfig(max_tokens=64, temperature=0.8, top_p=0.9)
ENGINES = {
    "transformers, int8": ["model.engine=transformers"],
    "ctranslate2, int8": ["model.engine=ctranslate2"],
    "transformers, float32": ["model.engine=transformers", "model.quantization=float32"],
}


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        parts = {name: Parts(config(overrides), Path(scratch)) for name, overrides in ENGINES.items()}
        engines = {name: one.initial_engine for name, one in parts.items()}
        some = next(iter(parts.values()))
        rows = [
            row(some, engines, demonstrations, prompts)
            for demonstrations, prompts in ((0, 32), (2, 8), (2, 32), (6, 32))
        ]
        found = {"machine": machine(), "repetitions": REPETITIONS, "rows": rows, "rounding": rounding(engines)}
    RESULTS.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    write_section("engines", "engines.py", section(found))


def config(overrides: Sequence[str]) -> Config:
    return load_config(overrides=["model.batch_size=128", *overrides])


def row(parts: Parts, engines: dict[str, Engine], demonstrations: int, prompts: int) -> dict[str, Any]:
    """Sampled tokens a second of each engine, behind so many demonstrations."""
    asked = pair_prompts(parts, demonstrations, prompts)
    shared = len(parts.tokenizer.encode(asked.prefix))
    own = median(len(parts.tokenizer.encode(one)) for one in asked.suffixes)
    found = {"prompts": prompts, "shared_tokens": shared, "own_tokens": own}
    found |= rates(engines, asked, SAMPLING)
    print(json.dumps(found), flush=True)
    return found


def rates(engines: dict[str, Engine], asked: Prompts, sampling: SamplingConfig) -> dict[str, int]:
    """Sampled tokens a second: medians of runs in turn, so that the machine's mood falls on all."""
    found: dict[str, list[float]] = {name: [] for name in engines}
    for repetition in range(REPETITIONS):
        for name, engine in engines.items():
            started = time.perf_counter()
            (made,) = engine.generate([asked], sampling, seed=repetition)
            found[name].append(sum(len(one.token_ids) for one in made) / (time.perf_counter() - started))
    return {name: round(median(values)) for name, values in found.items()}


def pair_prompts(parts: Parts, demonstrations: int, prompts: int) -> Prompts:
    seeds = load_seeds(None).tasks
    shown = [task for task in seeds if task.words() <= 40 and task.input and not task.is_classification]
    frame = answer_frame(parts.dialect, shown[:demonstrations])
    instructions = [task.instruction for task in seeds if len(task.instruction.split()) < 24]
    return Prompts(frame.before, tuple(one + frame.after for one in instructions[:prompts]))


def rounding(engines: dict[str, Engine]) -> dict[str, dict[str, float]]:
    """What each engine's log-probabilities of the seeds' outputs differ by from those in float32, in nats a token."""
    texts = [(f"{task.instruction}\n", task.output) for task in load_seeds(None).tasks[:60]]
    values = {
        name: torch.cat([torch.tensor(one) for one in engine.log_probs(texts)]) for name, engine in engines.items()
    }
    exact = values["transformers, float32"]
    return {
        name: {
            "tokens": len(exact),
            "root_mean_square": round(float((one - exact).pow(2).mean().sqrt()), 4),
            "mean": round(float((one - exact).mean()), 4),
        }
        for name, one in values.items()
    }


def section(found: dict[str, Any]) -> str:
    names = list(ENGINES)
    lines = [
        "## Engines on a CPU (`benchmarks/engines.py`, `benchmarks/engines.json`)",
        "",
        f"Machine: {found['machine']}. Sampled tokens a second, SmolLM2-135M-Instruct, at most "
        f"{SAMPLING.max_tokens} new tokens a prompt; medians of {found['repetitions']} in turn in one process.",
        "",
        f"| prompts | tokens shared | tokens of its own | {' | '.join(names)} |",
        "|---|---|---|" + "---|" * len(names),
    ]
    lines += [
        f"| {one['prompts']} | {one['shared_tokens']} | {one['own_tokens']:.0f} | "
        f"{' | '.join(str(one[name]) for name in names)} |"
        for one in found["rows"]
    ]
    lines += ["", "Log-probabilities of the seeds' outputs against those in float32, nats a token:", ""]
    lines += ["| engine | root mean square | mean | tokens |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {one['root_mean_square']} | {one['mean']:+} | {one['tokens']:,} |"
        for name, one in found["rounding"].items()
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
