"""Peak memory of each stage and the disk a run takes, every part with its formula. All sizes in GB of 10⁹
bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from refine_af.config import Config
from refine_af.planning.lengths import completions_needed, expectations, longest_pair, micro_batch_tokens
from refine_af.planning.models import ModelFacts, reward_models, short_name
from refine_af.planning.units import GB, count
from refine_af.planning.work import Generation, StageWork


@dataclass(frozen=True, slots=True)
class Part:
    """Something that takes room, and how its size was computed."""

    name: str
    gb: float
    formula: str


@dataclass(frozen=True, slots=True)
class Setup:
    """What decides about room besides the config: the model's sizes, where it runs and what generates."""

    facts: ModelFacts
    kind: str  # "cpu" or "gpu"
    engine: str  # "ctranslate2" or "transformers"
    rounded: bool  # whether what generates is in int8,
    packed: bool  # or a copy in float32

    @property
    def overhead_gb(self) -> float:
        return 0.6 if self.kind == "cpu" else 1.5


_NF4_BYTES = 0.516  # 4 bits and 0.127 of scales: QLoRA (arXiv 2305.14314), section 3


def weight_bytes(config: Config, kind: str) -> int:
    """Bytes of a number that is computed with: 4 in float32, 2 in the 16-bit types; auto and nf4 go by the device."""
    if config.model.dtype in ("auto", "nf4"):
        return 4 if kind == "cpu" else 2
    return 4 if config.model.dtype == "float32" else 2


def stage_memory(config: Config, setup: Setup, stage: StageWork) -> tuple[Part, ...]:
    """What is in memory at the stage's peak. Generation and training take turns: the larger of the two
    counts."""
    generating = [piece for piece in stage.pieces if isinstance(piece, Generation)]
    training = stage.name in ("policy", "finetune", "arms", "validate-feedback") and bool(stage.pieces)
    overhead = Part("process", setup.overhead_gb, "Python, its libraries and what the allocator holds back")
    if not generating and not training:
        return (Part("process", 0.2, "Python without a model"),)
    parts = [overhead]
    if training or setup.engine == "transformers" or stage.name == "instances":
        parts.append(_weights(config, setup))
    if generating and (setup.engine == "ctranslate2" or setup.rounded or setup.packed):
        size, precision = (1, "int8") if setup.rounded else (4, "float32")
        copies = 1 if stage.name == "instructions" else 2
        why = "" if copies == 1 else " × 2 policies"
        parts.append(
            Part(
                "engine's copy" if copies == 1 else "engine's copies",
                setup.facts.parameters * size * copies / GB,
                f"{count(setup.facts.parameters)} parameters × {size} B ({precision}){why}",
            )
        )
    if stage.name in ("policy", "instances") or (stage.name == "arms" and config.experiment.takes_best_of_n):
        parts += reward_parts(config)
    decode = [max((_cache(setup, piece) for piece in generating), key=lambda part: part.gb)] if generating else []
    train: list[Part] = []
    if training:
        parts.append(_adapter(config, setup, stage.name))
        train = list(_training(config, setup, stage.name))
    parts += max(decode, train, key=lambda some: sum(part.gb for part in some))
    return tuple(parts)


def _weights(config: Config, setup: Setup) -> Part:
    size = weight_bytes(config, setup.kind)
    name = {4: "float32", 2: "float16" if config.model.dtype == "float16" else "bfloat16"}[size]
    if config.model.dtype == "nf4":
        whole = 2 * setup.facts.vocabulary * setup.facts.hidden  # embeddings and output layer stay as they are
        small = setup.facts.parameters - whole
        gb = (small * _NF4_BYTES + whole * size) / GB
        return Part("weights", gb, f"{count(small)} × {_NF4_BYTES} B (nf4) + {count(whole)} × {size} B ({name})")
    gb = setup.facts.parameters * size / GB
    return Part("weights", gb, f"{count(setup.facts.parameters)} parameters × {size} B ({name})")


def reward_parts(config: Config) -> list[Part]:
    """Weights of the models that the feedback calls, in float32 on every device."""
    return [
        Part(
            short_name(model.name),
            model.parameters * 4 / GB,
            f"{count(model.parameters)} parameters × 4 B (float32)",
        )
        for model in reward_models(config.feedback)
    ]


def _cache(setup: Setup, work: Generation) -> Part:
    facts, size = setup.facts, 2 if setup.kind == "gpu" else 4
    per_token = facts.kv_bytes_per_token(size)
    tokens, batch = work.prompt + work.max_new, min(work.batch, math.ceil(work.completions / work.calls))
    return Part(
        "key-value cache",
        per_token * tokens * batch / GB,
        f"2 × {facts.layers} layers × {facts.kv_heads} kv heads × {facts.head_dim} × {size} B "
        f"× {tokens:.0f} tokens × batch of {batch}",
    )


def _adapter(config: Config, setup: Setup, stage: str) -> Part:
    lora = config.policy.lora if stage == "policy" else config.finetune.lora
    parameters = setup.facts.lora_parameters(lora.rank, lora.targets)
    if stage == "policy" and config.policy.has_own_critic:
        parameters *= 2
    return Part(
        "adapter",
        parameters * 16 / GB,
        f"{count(parameters)} LoRA parameters × 16 B (weight, gradient, Adam's two moments)",
    )


def _training(config: Config, setup: Setup, stage: str) -> tuple[Part, Part]:
    """Activations and logits of one micro-batch of the longest sequences.

    34 B of `hidden` a layer and token in 16 bits: Korthikanti et al., arXiv 2205.05198, without the attention matrix,
    which fused kernels don't keep. 12 more for what norms and adapters keep in float32 beside it: measured on a GPU
    45 with 7 G parameters in bfloat16 and 46 in nf4 (benchmarks/gpu.py). In float32 the 34 values suffice.
    """
    facts = setup.facts
    response = config.instances.sampling.max_tokens
    if stage == "policy":
        micro = config.policy.micro_batch
        tokens = micro_batch_tokens(config, response, micro)
    else:
        micro = config.finetune.micro_batch
        response = longest_pair(config)  # supervised training makes logits of the prompt as well
        tokens = float(micro * response)
    factor = 68 if weight_bytes(config, setup.kind) == 4 else 46
    per_token, how = factor * facts.layers, f"{factor} B × {facts.hidden} hidden × {facts.layers} layers"
    always = setup.kind == "gpu" and stage != "policy"
    if always or (stage == "policy" and config.policy.gradient_checkpointing):
        # Gradient checkpointing keeps each layer's input and, for the layer at work, everything.
        kept = weight_bytes(config, setup.kind)
        per_token = kept * facts.layers + factor
        how = f"({kept} B × {facts.layers} layers + {factor} B for one of them) × {facts.hidden} hidden"
    if stage == "policy" and config.policy.has_own_critic:
        tokens *= 2  # both keep theirs until the backward pass
    activations = per_token * facts.hidden * tokens / GB
    logits = micro * response * facts.vocabulary * 4 * 3 / GB
    return (
        Part(
            "activations",
            activations,
            f"{how} × {tokens:.0f} tokens, at most",
        ),
        Part(
            "logits",
            logits,
            f"{micro} × {response} tokens × {facts.vocabulary:,} pieces × 4 B × 3 (logits, softmax, gradient)",
        ),
    )


def disk(config: Config, setup: Setup | None, stages: Sequence[StageWork]) -> tuple[Part, ...]:
    """Room on disk: the models in the cache, then what the run's folder holds at its end."""
    parts: list[Part] = []
    hope = expectations(setup.facts if setup is not None else None)
    if setup is not None:
        parts += _stored_models(config, setup)
    lists, _ = completions_needed(config, hope)
    generated = sum(p.completions * p.mean_new for s in stages for p in s.pieces if isinstance(p, Generation))
    texts = generated + lists * hope.tokens_per_item
    # 4.5 bytes of text a token, kept twice over by indexes, scores and the exported data set.
    parts.append(
        Part("run.db and dataset/", 0.002 + texts * 4.5 * 2 / GB, f"{count(texts)} tokens of text × 4.5 B × 2")
    )
    if setup is not None:
        policy, tuned = config.policy, config.finetune
        both = setup.facts.lora_parameters(policy.lora.rank, policy.lora.targets)
        both += setup.facts.lora_parameters(tuned.lora.rank, tuned.lora.targets)
        parts.append(
            Part(
                "policy/ and model/",
                both * 28 / GB,
                f"{count(both)} LoRA parameters × 28 B (adapter, two checkpoints with Adam's moments)",
            )
        )
        if config.experiment.arms:
            one = setup.facts.lora_parameters(tuned.lora.rank, tuned.lora.targets)
            options = config.experiment
            adapters = len(options.arms) * len(options.seeds) * max(1, len(options.sizes))
            parts.append(
                Part("arms/", adapters * one * 4 / GB, f"{adapters} adapters of {count(one)} LoRA parameters × 4 B")
            )
    return tuple(parts)


def _stored_models(config: Config, setup: Setup) -> list[Part]:
    n = setup.facts.parameters
    if config.model.name == "embedded":
        parts = [Part("prepared model", n * 4 / GB, f"{count(n)} parameters × 4 B, in the user's cache")]
    else:
        parts = [Part("model", n * 2 / GB, f"{count(n)} parameters × 2 B, downloaded once")]
    if setup.engine == "ctranslate2":
        size = 1 if config.model.quantization == "int8" else 4
        parts.append(Part("engine's copy", n * size / GB, f"{count(n)} parameters × {size} B"))
    for model in reward_models(config.feedback):
        size_gb = model.parameters * 4 / GB
        formula = f"{count(model.parameters)} parameters × 4 B if stored as float32"
        parts.append(Part(short_name(model.name), size_gb, formula))
    return parts
