"""What a GPU does at the size of Llama 2 7B: decoding, PPO and its memory, beside what `refine-af plan` reckons with.

    python benchmarks/gpu.py

Writes gpu.json beside and the section in docs/benchmarks.md. The weights are random, which changes neither time nor
memory, so nothing is downloaded; 14 GB of them are written to the temporary folder and read by our own loader.
Sizes of prompts and responses are about those of the presets named after the paper.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import torch
from section import write_section
from transformers import LlamaConfig, LlamaForCausalLM

from refine_af.config import ModelConfig, PolicyConfig, SamplingConfig
from refine_af.engines.decoder import Decoder, can_decode
from refine_af.engines.steps import cuda_recorder
from refine_af.loading import load_model
from refine_af.models import LocatedModel
from refine_af.rl.actor_critic import ActorCritic
from refine_af.rl.responses import Trajectory
from refine_af.rl.trainer import Trainer

RESULTS = Path(__file__).with_suffix(".json")
SHAPE = LlamaConfig(
    vocab_size=32_000,
    hidden_size=4096,
    intermediate_size=11_008,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=32,
    max_position_embeddings=4096,
    eos_token_id=None,
)
SMALL = LlamaConfig(
    vocab_size=2000,
    hidden_size=256,
    intermediate_size=512,
    num_hidden_layers=4,
    num_attention_heads=8,
    num_key_value_heads=2,
    initializer_range=0.2,
    eos_token_id=None,
)
SHARED, OWN, NEW = 400, 40, 128  # tokens of a prompt's demonstrations, of its own, and of what is written
RESPONSE = 256
SAMPLING = SamplingConfig(max_tokens=NEW, temperature=0.7, top_p=0.9)
POLICY: dict[str, Any] = {
    "rollouts": 32,
    "minibatch": 32,
    "micro_batch": 4,
    "epochs": 2,
    "lora": {"rank": 16, "alpha": 32, "targets": ["q_proj", "v_proj"]},
}
SEED = 0
DEVICE = "cuda"


def main() -> None:
    found: dict[str, Any] = {"machine": machine(), "sizes": sizes(), "agreement": agreement()}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        written(folder)
        for dtype in ("bfloat16", "nf4"):
            started = time.perf_counter()
            network = load_model(LocatedModel("random", folder), ModelConfig(name=scratch, dtype=dtype))
            here: dict[str, Any] = {"load_s": seconds_since(started), "weights_gb": gigabytes()}
            here["decoding"] = [decoding(network, rows) for rows in ((16, 64, 128) if dtype == "bfloat16" else (64,))]
            here["passes"] = passes(network)
            here["ppo"] = [ppo(network, checkpointing) for checkpointing in (False, True)]
            found[dtype] = here
            print(json.dumps({dtype: here}), flush=True)
            del network
            torch.cuda.empty_cache()
    RESULTS.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    write_section("gpu", "gpu.py", section(found))


def machine() -> str:
    versions = ", ".join(
        f"{name} {metadata.version(name)}" for name in ("torch", "transformers", "peft", "bitsandbytes")
    )
    return f"{torch.cuda.get_device_name()}, {versions}"


def sizes() -> dict[str, int]:
    return {"shared": SHARED, "own": OWN, "new": NEW, "response": RESPONSE, "rollouts": POLICY["rollouts"]}


def written(folder: Path) -> None:
    """A model's folder with random weights."""
    torch.manual_seed(SEED)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(DEVICE):
            network = LlamaForCausalLM(SHAPE)
    finally:
        torch.set_default_dtype(before)
    network.save_pretrained(folder)


def tokens(count: int, seed: int) -> list[int]:
    random = Random(seed)
    return [random.randrange(10, 2000) for _ in range(count)]


def agreement() -> dict[str, int]:
    """Of rows that are written greedily in float32 by a small network: how many are those of transformers' generate,
    where one beginning is shared and where each of three has some rows."""
    torch.manual_seed(SEED)
    network = LlamaForCausalLM(SMALL).to(DEVICE).eval().requires_grad_(False)
    own = [tokens(3 + 7 * (i % 11), 50 + i) for i in range(48)]
    greedy = SamplingConfig(max_tokens=64, temperature=0)
    found = {"rows": 0, "equal": 0}
    for count in (1, 3):
        groups = [(tokens(90 + 40 * g, g), own[g::count]) for g in range(count)]
        decoder = Decoder(network, ends=(), most_rows=16, recorder=cuda_recorder)
        made = iter(decoder.complete(groups, greedy, seed=SEED))
        for beginning, rows in groups:
            for row in rows:
                ids = torch.tensor([beginning + row], device=DEVICE)
                theirs = network.generate(ids, max_new_tokens=64, do_sample=False, pad_token_id=0)
                found["rows"] += 1
                found["equal"] += next(made).tokens == theirs[0, ids.shape[1] :].tolist()
    print(json.dumps(found), flush=True)
    return found


def decoding(network: Any, rows: int) -> dict[str, Any]:
    """Tokens a second of our decoder and of transformers' generate, in turn; every row writes as many tokens."""
    prefix = tokens(SHARED, 1)
    own = [tokens(OWN, 2 + i) for i in range(rows)]
    decoder = Decoder(network, ends=(), most_rows=rows, recorder=cuda_recorder)
    whole = torch.tensor([prefix + one for one in own], device=DEVICE)

    def ours() -> None:
        decoder.complete([(prefix, own)], SAMPLING, seed=SEED)

    def theirs() -> None:
        network.generate(
            input_ids=whole, attention_mask=torch.ones_like(whole), max_new_tokens=NEW,
            do_sample=True, temperature=SAMPLING.temperature, top_p=SAMPLING.top_p, top_k=0, pad_token_id=0,
        )  # fmt: skip

    with torch.no_grad():
        times = in_turn({"ours": ours, "transformers": theirs}, repetitions=1)
    rates = {name: round(rows * NEW / took) for name, took in times.items()}
    found = {"rows": rows, "approved": can_decode(network, prefix[:12]), "tokens_per_s": rates}
    print(json.dumps(found), flush=True)
    return found


def trajectories(count: int) -> list[Trajectory]:
    prefix = tuple(tokens(SHARED, 1))
    return [Trajectory(prefix, tuple(tokens(OWN, 2 + i)), tuple(tokens(RESPONSE, 1000 + i))) for i in range(count)]


def actor(network: Any, *, checkpointing: bool) -> ActorCritic:
    lora = PolicyConfig.model_validate(POLICY).lora
    return ActorCritic(network, lora, temperature=0.7, label="random", seed=SEED, checkpointing=checkpointing)


def passes(network: Any) -> dict[str, float]:
    """TFLOP/s of a micro-batch without a gradient and with one: 2 and 4 FLOPs a parameter and token, as the plan
    counts them."""
    made = actor(network, checkpointing=False)
    some = trajectories(POLICY["micro_batch"])
    count = SHARED + len(some) * (OWN + RESPONSE)
    # By the shape: bitsandbytes packs two parameters into a byte.
    block = 4 * SHAPE.hidden_size**2 + 3 * SHAPE.hidden_size * SHAPE.intermediate_size
    flops = 2 * count * (SHAPE.num_hidden_layers * block + SHAPE.vocab_size * SHAPE.hidden_size)

    def forward() -> None:
        with torch.no_grad():
            made.evaluate(some)

    def train() -> None:
        made.evaluate(some).log_probs.sum().backward()

    times = in_turn({"forward": forward, "train": train}, repetitions=3)
    made.release()
    found = {"forward": round(flops / times["forward"] / 1e12), "train": round(2 * flops / times["train"] / 1e12)}
    print(json.dumps(found), flush=True)
    return {f"{name}_tflops": value for name, value in found.items()}


def ppo(network: Any, checkpointing: bool) -> dict[str, Any]:
    """Seconds of an iteration after its rollouts, and the peak of the GPU's memory in it."""
    config = PolicyConfig.model_validate(POLICY)
    made = actor(network, checkpointing=checkpointing)
    trainer = Trainer(made, config, SEED)
    some = trajectories(config.rollouts)
    scores = [Random(i).gauss(0, 1) for i in range(len(some))]
    times = []
    torch.cuda.reset_peak_memory_stats()
    for iteration, count in ((1, config.micro_batch), (2, config.rollouts)):  # the first warms up
        started = time.perf_counter()
        figures = trainer.iterate(iteration, some[:count], scores[:count])
        times.append(seconds_since(started))
    made.release()
    found = {
        "gradient_checkpointing": checkpointing,
        "seconds": times[-1],
        "peak_gb": gigabytes(torch.cuda.max_memory_allocated()),
        "clip_share": round(figures["clip_share"], 3),
        "gradient_norm": round(figures["gradient_norm"], 3),
    }
    print(json.dumps(found), flush=True)
    return found


def in_turn(what: dict[str, Callable[[], None]], repetitions: int) -> dict[str, float]:
    """Median seconds of each after one run to warm up."""
    times: dict[str, list[float]] = {name: [] for name in what}
    for repetition in range(repetitions + 1):
        for name, run in what.items():
            torch.cuda.synchronize()
            started = time.perf_counter()
            run()
            torch.cuda.synchronize()
            if repetition:
                times[name].append(time.perf_counter() - started)
    return {name: median(values) for name, values in times.items()}


def seconds_since(started: float) -> float:
    torch.cuda.synchronize()
    return round(time.perf_counter() - started, 2)


def gigabytes(count: int | None = None) -> float:
    return round((torch.cuda.memory_allocated() if count is None else count) / 1e9, 1)


def section(found: dict[str, Any]) -> str:
    size = found["sizes"]
    lines = [
        f"{found['machine']}; random weights of the shape of Llama 2 7B, seed {SEED}.",
        "",
        f"Greedy answers of a small network in float32, {found['agreement']['equal']} of "
        f"{found['agreement']['rows']} equal to those of transformers' generate.",
        "",
        f"Sampling {size['new']} tokens a row, behind {size['shared']} tokens that all rows share and "
        f"{size['own']} of their own (transformers reads both for each row):",
        "",
        "| weights | rows | ours, tokens/s | transformers' generate | ratio |",
        "|---|---|---|---|---|",
    ]
    for dtype in ("bfloat16", "nf4"):
        for row in found[dtype]["decoding"]:
            ours, theirs = (row["tokens_per_s"][name] for name in ("ours", "transformers"))
            lines.append(f"| {dtype} | {row['rows']} | {ours:,} | {theirs:,} | {ours / theirs:.2f} |")
    lines += [
        "",
        f"PPO over {size['rollouts']} rollouts of {size['response']} tokens behind such prompts: 2 epochs, minibatch "
        f"{POLICY['minibatch']}, micro-batches of {POLICY['micro_batch']}; seconds after the rollouts; the peak of all "
        "that torch holds on the GPU, weights included:",
        "",
        "| weights | GB | checkpointing | seconds | peak GB | TFLOP/s forward | forward and backward |",
        "|---|---|---|---|---|---|---|",
    ]
    for dtype in ("bfloat16", "nf4"):
        here = found[dtype]
        lines += [ppo_row(dtype, here, one) for one in here["ppo"]]
    return "\n".join(lines)


def ppo_row(dtype: str, here: dict[str, Any], one: dict[str, Any]) -> str:
    cells: Sequence[Any] = (
        dtype,
        here["weights_gb"],
        "yes" if one["gradient_checkpointing"] else "no",
        one["seconds"],
        one["peak_gb"],
        here["passes"]["forward_tflops"],
        here["passes"]["train_tflops"],
    )
    return f"| {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
    main()
