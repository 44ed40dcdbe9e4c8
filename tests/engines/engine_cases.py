"""What the tests of engines ask of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model

from refine_af.config import Config, SamplingConfig, load_config
from refine_af.engines.base import Completion, Engine, Prompts
from refine_af.parts import Parts

ENGINES = ("ctranslate2", "transformers")
GREEDY = SamplingConfig(max_tokens=24, temperature=0)
FREE = SamplingConfig(max_tokens=24, temperature=1.0, top_p=1.0, top_k=0)
ONE_TOKEN = FREE.model_copy(update={"max_tokens": 1})

PREFIX = "<|user|>Write a short poem about winter</s><|assistant|> snow</s><|user|>"
TASKS = (
    "Describe a quiet river",
    "List three animal that live in the garden",
    "Explain",
    "Tell a funny story about a doctor and a machine",
    "Why is the water cold?",
    "Compare summer with winter in one short sentence",
    "Suggest a title",
    "Translate the letter",
)
PROMPTS = Prompts(PREFIX, tuple(f"{task}</s><|assistant|>" for task in TASKS))
# Contexts and continuations.
SCORED = [
    (PREFIX + "Describe a quiet river</s><|assistant|>", " cold blue water</s>"),
    ("<|user|>Explain", " Yes"),
    ("<|user|>Explain", " No"),
    ("", " Write a letter"),
    (PREFIX, ""),
    (PREFIX + "Tell a story</s><|assistant|>", " zyzzyva is unknown"),
] + [(f"<|user|>{task}</s><|assistant|>", " Yes and No" * n) for n, task in enumerate(TASKS, start=1)]
EnginePair = tuple[Engine, Engine]
Made = Callable[..., Parts]


def config_of(model: Path, engine: str, batch_size: int, threads: int) -> Config:
    settings = {
        "model.name": model,
        "model.engine": engine,
        "model.quantization": "float32",
        "model.device": "cpu",
        "model.batch_size": batch_size,
        "threads": threads,
    }
    return load_config(overrides=[f"{k}={v}" for k, v in settings.items()])


def next_log_probs(reference: tuple[Any, Any], text: str) -> torch.Tensor:
    network, tokenizer = reference
    with torch.no_grad():
        logits = network(input_ids=torch.tensor([tokenizer.encode(text)])).logits[0, -1]
    return torch.log_softmax(logits.double(), -1)


def copies(count: int, task: str = "Explain") -> Prompts:
    return Prompts(PREFIX, (f"{task}</s><|assistant|>",) * count)


def written(engine: Engine, prompts: Prompts, sampling: SamplingConfig, *, seed: int, **more: Any) -> list[Completion]:
    """Of a single group."""
    (made,) = engine.generate([prompts], sampling, seed=seed, **more)
    return made


def adapt(network: Any, seed: int = 0) -> Any:
    """A LoRA adapter on the network that changes it, as training would."""
    settings = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    adapted = get_peft_model(network, settings)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.normal_(0.0, 0.4, generator=generator)
    return adapted
