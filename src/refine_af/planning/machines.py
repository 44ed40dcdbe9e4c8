"""Reference machines: how long generation, a forward pass and training take on them, with the arithmetic in
words."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol

from refine_af.planning.memory import Setup
from refine_af.planning.models import ModelFacts, known_facts
from refine_af.planning.units import count
from refine_af.planning.work import Generation


@dataclass(frozen=True, slots=True)
class Estimate:
    """Seconds, and how they were computed."""

    seconds: float
    formula: str


class Machine(Protocol):
    """What the plan asks of a reference machine."""

    @property
    def title(self) -> str: ...

    def generate(self, work: Generation, facts: ModelFacts) -> Estimate: ...

    def passes(self, kind: str, tokens: float, parameters: int) -> Estimate: ...

    def fixed(self, kind: str, times: int, facts: ModelFacts) -> Estimate: ...


@dataclass(frozen=True, slots=True)
class GpuMachine:
    """One 80 GB GPU, by the data sheet of an A100 SXM and the share of it that eager PyTorch usually reaches.

    A forward pass costs 2 FLOPs a parameter and token. Training costs 4 with frozen weights: the way back
    computes the gradient of the activations (2) but not that of the weights, which full training adds.
    Fine-tuning costs 6, since gradient checkpointing computes the activations a second time.
    """

    kind: str = "gpu"
    title: str = "one 80 GB GPU (NVIDIA A100 SXM by its data sheet: 312 TFLOP/s in bfloat16, 2.04 TB/s)"
    memory_gb: float = 80.0
    peak_flops: float = 312e12
    float32_flops: float = 19.5e12  # without TF32
    bandwidth: float = 2.04e12  # bytes a second
    forward_share: float = 0.40
    train_share: float = 0.35
    decode_share: float = 0.35  # of the bandwidth: kernel launches and cache copies take the rest
    bytes_per_weight: int = 2

    def generate(self, work: Generation, facts: ModelFacts) -> Estimate:
        """Prompts by FLOPs, then decoding by bandwidth: every step reads all weights and the batch's cache.

        A batch runs until its longest completion ends, so its steps are max_tokens and not the mean.
        """
        prefill = self.passes("forward", work.completions * work.prompt, facts.parameters)
        batch = min(work.batch, math.ceil(work.completions / work.calls))
        cached = batch * (work.prompt + work.max_new / 2)  # tokens, in the mean over the steps
        read = facts.parameters * self.bytes_per_weight + cached * facts.kv_bytes_per_token(2)
        step = read / (self.bandwidth * self.decode_share)
        decode = work.batches * work.max_new * step
        formula = (
            f"{work.batches:,} batches of {batch:.0f} × {work.max_new} steps × {step * 1000:.0f} ms "
            f"({read / 1e9:.0f} GB of weights and cache / {self.decode_share:.0%} of the bandwidth) "
            f"+ {prefill.seconds:,.0f} s for {count(work.completions * work.prompt)} prompt tokens"
        )
        return Estimate(decode + prefill.seconds, formula)

    def passes(self, kind: str, tokens: float, parameters: int) -> Estimate:
        """Bound by computing. Reward models run in float32, so that a pair's score doesn't depend on its
        batch."""
        flops = {"gradient": 4, "train": 4, "finetune": 6}.get(kind, 2)
        share = self.train_share if flops > 2 else self.forward_share
        peak = self.float32_flops if kind == "reward" else self.peak_flops
        formula = (
            f"{count(tokens)} tokens × {flops} × {count(parameters)} parameters "
            f"/ ({peak / 1e12:.4g} TFLOP/s × {share:.0%})"
        )
        return Estimate(tokens * flops * parameters / (peak * share), formula)

    def fixed(self, kind: str, times: int, facts: ModelFacts) -> Estimate:
        if kind == "prepare":
            rate = 1.0e9  # bytes a second from a local disk to the GPU
            size = facts.parameters * self.bytes_per_weight
            return Estimate(size / rate, f"{size / 1e9:.1f} GB of weights read at 1 GB/s")
        return Estimate(0.0, "none: the engine and the training share their weights")


@dataclass(frozen=True, slots=True)
class CpuMachine:
    """Two CPU cores, by rates measured with the embedded model; other sizes scale with their parameters."""

    kind: str = "cpu"
    title: str = "2 CPU cores with instructions for int8 (rates measured with the embedded model)"
    engine: str = "transformers"
    rounded: bool = True  # whether it generates in int8,
    packed: bool = False  # or with a copy in float32
    train_rate: float = 230.0  # tokens a second, forward and backward
    score_rate: float = 1000.0  # tokens a second, int8 likelihoods: measured 1,180, by ctranslate2 785 to 1,150
    float_score_rate: float = 690.0  # tokens a second, likelihoods in float32
    prepare_s: float = 30.0  # read the model file, save it
    refresh_s: float = 2.0  # ctranslate2: merge the adapter, convert the weights
    copy_s: float = 0.5  # merge the adapter and round, or pack: measured 0.3 to 0.5

    def generate(self, work: Generation, facts: ModelFacts) -> Estimate:
        """Decoding at a rate that falls with the prompt; prompts that share no prefix pay for their own
        reading."""
        rate = self.decode_rate(work.prompt, min(work.batch, work.completions / work.calls))
        rate /= self._size(facts.parameters)
        tokens = work.completions * work.mean_new
        seconds, formula = tokens / rate, f"{count(tokens)} tokens / {rate:.0f} tokens/s"
        if not work.shared:
            prefill = self.passes("score", work.completions * work.prompt, facts.parameters)
            seconds, formula = seconds + prefill.seconds, f"{formula} + prompts {prefill.formula}"
        return Estimate(seconds, formula)

    def decode_rate(self, prompt: float, batch: float) -> float:
        """Tokens a second of the embedded model.

        Of 32 rows at once, in int8, with prompts of 118 tokens of which all but 20 are shared: 341, and 277 with
        prompts of 330, so seconds a token grow a little with the prompt. Rows that end early leave others with fewer
        beside them, which costs about a third of the rate. 8, 32 and 128 rows relate as 149 : 341 : 401. CTranslate2
        makes 128 in the same run; in float32 the rate is 0.56 of that in int8.
        """
        slope = (1 / 277 - 1 / 341) / (330 - 118)
        per_token = 1.5 * (1 / 341 + slope * (max(1.0, prompt) - 118))
        relative = max(1.0, batch) / 32
        gain = relative**0.6 if relative < 1 else min(relative, 4.0) ** 0.12
        share = 1.0 if self.rounded else 0.56
        return gain * share / per_token * (128 / 341 if self.engine == "ctranslate2" else 1.0)

    def passes(self, kind: str, tokens: float, parameters: int) -> Estimate:
        """The way back costs twice the way there, so a forward pass is three times as fast as training."""
        rate = self.train_rate if kind in ("gradient", "train", "finetune") else 3 * self.train_rate
        if kind == "score":
            rate = self.score_rate if self.rounded else self.float_score_rate
        rate /= self._size(parameters)
        shown = f"{rate:.0f}" if rate >= 10 else f"{rate:.2g}"
        return Estimate(tokens / rate, f"{count(tokens)} tokens / {shown} tokens/s")

    def _size(self, parameters: int) -> float:
        embedded = known_facts("embedded")
        assert embedded is not None  # the table's own entry
        return parameters / embedded.parameters

    def fixed(self, kind: str, times: int, facts: ModelFacts) -> Estimate:
        if kind == "prepare":
            each = self.prepare_s
        elif self.engine == "ctranslate2":
            each = self.refresh_s
        elif self.rounded or self.packed:
            each = self.copy_s
        else:
            return Estimate(0.0, "none: the engine and the training share their weights")
        each *= self._size(facts.parameters)
        return Estimate(times * each, f"{times} × {each:.1f} s")


def cpu_machine(setup: Setup, *, int8: bool) -> CpuMachine:
    """Two cores with or without instructions for int8. Those without were measured on an AMD EPYC with AVX2 alone."""
    machine = CpuMachine(engine=setup.engine, rounded=setup.rounded, packed=setup.packed)
    if int8:
        return machine
    title = "2 CPU cores without instructions for int8 (rates measured with the embedded model)"
    return replace(machine, title=title, train_rate=130.0, float_score_rate=700.0)
