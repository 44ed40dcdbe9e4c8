"""What influence costs: gradients of a batch at once, in float32 and in bfloat16, against pair by pair, and against
reading likelihoods.

    python benchmarks/gradients.py [--pairs 64] [--threads 0]

Each way has a process of its own, on the same pairs and directions. Writes gradients.json beside and the section in
docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from feedback import machine
from section import write_section

from refine_af.config import Config, ScorerConfig, load_config
from refine_af.environment import quiet_libraries
from refine_af.feedback.base import Example
from refine_af.feedback.catalogue import Workshop
from refine_af.parts import Parts
from refine_af.records import content_id, derived_random
from refine_af.seeds import built_in_tasks

RESULTS = Path(__file__).with_suffix(".json")
ROUNDS = 3


def pairs_of(config: Config, count: int) -> list[Example]:
    """Seed tasks with outputs of others: as long as what a policy writes, and none of them an anchor's own pair."""
    tasks = [t for t in built_in_tasks() if t.words() <= 60]
    derived_random(1, "pairs").shuffle(tasks)
    return [Example(a.instruction, a.input, b.output) for a, b in zip(tasks, [*tasks[1:], tasks[0]], strict=True)][
        :count
    ]


def at_once(parts: Parts, pairs: list[Example]) -> tuple[list[float], list[float]]:
    """Seconds a pair of each round, and what the pairs got in the plain direction."""
    influence = Workshop(parts, []).influence(witness=False)
    influence(pairs[:2])  # the anchors' gradients are taken
    seconds, values = [], []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        values = influence._values(pairs)[:, 0].tolist()
        seconds.append((time.perf_counter() - started) / len(pairs))
    return seconds, values


def pair_by_pair(parts: Parts, pairs: list[Example]) -> tuple[list[float], list[float]]:
    """The same by peft and autograd: an adapter with the same weights, and a gradient of all of it for each pair."""
    import torch
    from peft import get_peft_model
    from safetensors.torch import load_file

    from refine_af.lora import lora_config
    from refine_af.models import cache_folder

    influence = Workshop(parts, []).influence(witness=False)
    influence(pairs[:2])
    folder = cache_folder() / "anchors" / content_id(influence.identity)
    direction = load_file(folder / "anchors.safetensors")["means"][0]
    layers = {layer.name: layer.a for layer in influence._reader()._layers}
    model = get_peft_model(parts.network, lora_config(parts.config.finetune.lora))
    weights = []
    for name, module in parts.network.named_modules():
        if name in layers:
            module.lora_A["default"].weight.data.copy_(layers[name])
            module.lora_A["default"].weight.requires_grad_(True)
            weights.append(module.lora_B["default"].weight)
    rows = [influence._row(one, True) for one in pairs]
    seconds: list[float] = []
    for _ in range(ROUNDS):
        values: list[float] = []
        started = time.perf_counter()
        for row in rows:
            ids = torch.tensor([row.prefix_ids + row.prompt_ids + row.response_ids])
            count = len(row.response_ids)
            labels = ids.clone()
            labels[0, :-count] = -100
            model.zero_grad(set_to_none=True)
            (-model(input_ids=ids, labels=labels).loss).backward()
            gradient = torch.cat([w.grad.flatten() for w in weights])
            values.append(float(gradient @ direction / gradient.norm()))
        seconds.append((time.perf_counter() - started) / len(pairs))
    return seconds, values


def likelihoods(parts: Parts, pairs: list[Example]) -> tuple[list[float], list[float]]:
    measure, _ = Workshop(parts, []).likelihood(ScorerConfig())
    measure(pairs[:2])
    seconds = []
    for _ in range(ROUNDS):
        measure._last = ((), [])
        started = time.perf_counter()
        measure(pairs)
        seconds.append((time.perf_counter() - started) / len(pairs))
    return seconds, []


WAYS = {
    "at once": at_once,
    "at once, bfloat16": at_once,
    "pair by pair": pair_by_pair,
    "likelihoods": likelihoods,
}


def measured(way: str, count: int, threads: int) -> dict[str, Any]:
    """Of one way, in a process of its own: seconds a pair of the quickest round, the peak of memory in GB, values."""
    quiet_libraries()
    dtype = "bfloat16" if way.endswith("bfloat16") else "float32"
    config = load_config(preset="embedded", overrides=[f"threads={threads}", f"model.dtype={dtype}"])
    with tempfile.TemporaryDirectory() as scratch:
        parts = Parts(config, Path(scratch))
        seconds, values = WAYS[way](parts, pairs_of(config, count))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"seconds": min(seconds), "rounds": seconds, "peak_gb": peak, "values": values}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--pairs", type=int, default=64)
    arguments.add_argument("--threads", type=int, default=0, help="0: all cores")
    given = arguments.parse_args()
    found: dict[str, Any] = {"machine": machine(), "pairs": given.pairs}
    for way in WAYS:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found[way] = pool.apply(measured, (way, given.pairs, given.threads))
        print(way, {k: v for k, v in found[way].items() if k != "values"}, flush=True)
    mine, rounded, theirs, _ = (found[way].pop("values") for way in WAYS)
    found["correlation"] = correlation(mine, theirs)
    found["correlation_bfloat16"] = correlation(mine, rounded)
    RESULTS.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    write_section("gradients", "gradients.py", section(found))
    print(section(found))


def correlation(one: list[float], other: list[float]) -> float:
    """Spearman's, of the order in which both ways put the pairs."""
    ranks = [[sorted(values).index(value) for value in values] for values in (one, other)]
    return statistics.correlation(*ranks)


def section(found: dict[str, Any]) -> str:
    ratio = found["pair by pair"]["seconds"] / found["at once"]["seconds"]
    lines = [
        "## What influence costs (`benchmarks/gradients.py`, `benchmarks/gradients.json`)",
        "",
        f"Machine: {found['machine']}. {found['pairs']} pairs, the quickest of {ROUNDS} rounds.",
        "",
        "| way | seconds a pair | peak of memory, GB |",
        "|---|---|---|",
        *(f"| {way} | {found[way]['seconds']:.3f} | {found[way]['peak_gb']:.2f} |" for way in WAYS),
        "",
        f"At once is {ratio:.1f} times as quick as pair by pair, which lets the gradient through what all prompts",
        f"begin with, too: the orders in which both put the pairs correlate by {found['correlation']:.2f}. The order",
        f"in bfloat16 correlates with that in float32 by {found['correlation_bfloat16']:.3f}.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
