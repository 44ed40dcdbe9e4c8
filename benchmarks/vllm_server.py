"""A vLLM server against the transformers engine: the same answers and likelihoods, adapters that are swapped, speed.

    VLLM_ALLOW_RUNTIME_LORA_UPDATING=True vllm serve MODEL --enable-lora --dtype float32     # in vLLM's own environment
    python benchmarks/vllm_server.py --url http://localhost:8000/v1 [--model MODEL] [--server "vLLM 0.32.0, ..."]

Writes vllm_server.json beside and the section in docs/benchmarks.md. Prompts as the stage of instances has them, behind
two demonstrations; greedy for what is compared, sampled for the speed, the two engines in turn.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from engines import REPETITIONS, pair_prompts, rates
from feedback import machine
from peft import LoraConfig, get_peft_model
from section import write_section

from refine_af.config import SamplingConfig, load_config
from refine_af.engines.base import Completion, Engine, Prompts
from refine_af.parts import Parts

RESULTS = Path(__file__).with_suffix(".json")
GREEDY = SamplingConfig(max_tokens=64, temperature=0)
SAMPLING = SamplingConfig(max_tokens=64, temperature=0.8, top_p=1.0)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--url", required=True, help="of the server, ending in /v1")
    arguments.add_argument("--model", default="embedded", help="the same model here")
    arguments.add_argument("--server", default="a vLLM server", help="what it is and how it was started, in words")
    arguments.add_argument("--prompts", type=int, default=32)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        exact = [f"model.name={given.model}", "model.quantization=float32", "model.batch_size=32"]
        here = Parts(load_config(overrides=[*exact, "model.engine=transformers"]), folder)
        served = [*exact, "model.engine=vllm", f"model.server.url={given.url}"]
        there = Parts(load_config(overrides=served), folder)
        asked = pair_prompts(here, 2, given.prompts)
        there.initial_engine.generate([asked], SAMPLING, seed=0)  # kernels are made when first needed
        found = {
            "machine": machine(),
            "server": given.server,
            "model": here.located.label,
            "prompts": len(asked.suffixes),
            "base": compared(here.initial_engine, there.initial_engine, asked),
            "adapter": with_adapter(here, there, asked, folder / "adapter"),
            "tokens_per_s": rates({"transformers": here.initial_engine, "vllm": there.initial_engine}, asked, SAMPLING),
        }
    RESULTS.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=2))
    write_section("vllm", "vllm_server.py", section(found))


def compared(here: Engine, there: Engine, asked: Prompts) -> dict[str, Any]:
    """Greedy answers of both: how many are equal, and how far their tokens' likelihoods are apart in the equal ones."""
    (ours,), (theirs,) = (engine.generate([asked], GREEDY, seed=0, log_probs=True) for engine in (here, there))
    equal = [(a, b) for a, b in zip(ours, theirs, strict=True) if a.token_ids == b.token_ids and a.text == b.text]
    return {"equal": len(equal), "tokens": sum(len(a.token_ids) for a, _ in equal), "apart": most_apart(equal)}


def most_apart(pairs: Sequence[tuple[Completion, Completion]]) -> float:
    """The greatest difference of a token's log-probability, in nats."""
    both = [(one.log_probs or (), other.log_probs or ()) for one, other in pairs]
    return max((abs(x - y) for a, b in both for x, y in zip(a, b, strict=True)), default=0.0)


def with_adapter(here: Parts, there: Parts, asked: Prompts, folder: Path) -> dict[str, Any]:
    """The same behind a random adapter that changes every answer, and the seconds until a server has it."""
    (before,) = here.initial_engine.generate([asked], GREEDY, seed=0)
    adapted = get_peft_model(
        here.network, LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.normal_(0.0, 0.05, generator=generator)
    adapted.save_pretrained(folder)
    network_engine = here.shared_engine(adapter=True)
    started = time.perf_counter()
    with there.adapted_engine(folder) as engine:
        seconds = time.perf_counter() - started
        found = compared(network_engine, engine, asked)
        (after,) = engine.generate([asked], GREEDY, seed=0)
        changed = sum(a.token_ids != b.token_ids for a, b in zip(before, after, strict=True))
    adapted.unload()
    return found | {"changed": changed, "seconds_to_load": round(seconds, 2)}


def section(found: dict[str, Any]) -> str:
    count, base, adapter, speed = (found[name] for name in ("prompts", "base", "adapter", "tokens_per_s"))
    return "\n".join(
        [
            "## A vLLM server (`benchmarks/vllm_server.py`, `benchmarks/vllm_server.json`)",
            "",
            f"Server: {found['server']}. Here: {found['machine']}. {found['model']}, {count} prompts behind a shared "
            f"beginning, {GREEDY.max_tokens} tokens at most; torch here in float32.",
            "",
            "| weights | greedy answers equal to the transformers engine's | log-probabilities apart by at most |",
            "|---|---|---|",
            f"| the model | {base['equal']} of {count} | {base['apart']:.1e} nats over {base['tokens']:,} tokens |",
            f"| with an adapter | {adapter['equal']} of {count} | {adapter['apart']:.1e} nats over "
            f"{adapter['tokens']:,} tokens |",
            "",
            f"The adapter is random and changes {adapter['changed']} of the answers; the server has it after "
            f"{adapter['seconds_to_load']} s. Sampled tokens a second: vLLM {speed['vllm']}, transformers "
            f"{speed['transformers']}, medians of {REPETITIONS} in turn on one machine.",
        ]
    )


if __name__ == "__main__":
    main()
