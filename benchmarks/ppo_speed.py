"""Our PPO, and beside it our GRPO and RLOO, against the classic PPOTrainer of TRL 0.11.4: samples a second and peak
memory, the same sizes on all sides.

    python benchmarks/ppo_speed.py [--repeats 3] [--steps 2]

The old library gets an environment of its own in refine-af's cache, made when it isn't there (some minutes). Every
measurement is a process; the contenders take turns. Writes ppo_speed.json beside and a section in docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Any

from section import write_section

from refine_af.models import cache_folder

OLD = ("torch==2.13.0", "trl==0.11.4", "transformers==4.46.3", "peft==0.13.2", "accelerate==1.1.1", "datasets==3.1.0",
       "numpy<2.3", "rich")  # fmt: skip
# PPO sends what all prompts begin with through the network once, which TRL can't; so once without that. And once in
# bfloat16 with an adapter in float32, which is quicker on CPUs that compute in it (AVX512-BF16, AMX) and on no other.
CONTENDERS = (
    "trl", "ours", "ours, shared beginning", "ours, shared beginning, bfloat16", "ours, shared beginning, grpo",
    "ours, shared beginning, rloo",
)  # fmt: skip
SEED, LEARNING_RATE, RANK, EPOCHS = 0, 1e-4, 8, 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="processes of each contender")
    parser.add_argument("--steps", type=int, default=2, help="iterations in a process")
    parser.add_argument("--rollouts", type=int, default=16, help="samples in an iteration; a minibatch is half of it")
    parser.add_argument("--micro", type=int, default=8, help="samples that ours sends through at once")
    parser.add_argument("--prompt", type=int, default=180, help="tokens of a prompt")
    parser.add_argument("--shared", type=int, default=120, help="of which all prompts have in common")
    parser.add_argument("--response", type=int, default=64, help="tokens of a response, at most")
    parser.add_argument("--worker", nargs=3, metavar=("CONTENDER", "WORK", "RESULT"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.worker:
        measure_ours(*chosen.worker)
        return
    python = old_environment()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary) / "work.json"
        work.write_text(json.dumps(work_for(chosen)), encoding="utf-8")
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTENDERS}
        for repeat in range(chosen.repeats):
            for name in CONTENDERS:
                result = measured(name, python, work, Path(temporary) / "result.json")
                runs[name].append(result)
                seconds = ", ".join(f"{step['seconds']:.1f}" for step in result["steps"])
                print(f"repeat {repeat + 1}, {name}: {seconds} s a step", flush=True)
    found = summary(runs, chosen)
    Path(__file__).with_suffix(".json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found["contenders"], indent=2))
    write_section("ppo_speed", "ppo_speed.py", section(found))


def old_environment() -> Path:
    """The python of an environment with the old library; made where it isn't there."""
    folder = cache_folder() / "benchmarks" / "trl-0.11.4"
    complete, python = folder / "complete", folder / "bin" / "python"
    if not complete.exists():
        shutil.rmtree(folder, ignore_errors=True)
        print(f"making {folder}: {' '.join(OLD)}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *OLD], check=True)
        complete.touch()
    return python


def work_for(chosen: argparse.Namespace) -> dict[str, Any]:
    """What every process is told."""
    from refine_af.config import ModelConfig
    from refine_af.loading import load_tokenizer
    from refine_af.models import locate
    from refine_af.planning.hardware import usable_cores

    located = locate(ModelConfig())
    made = prompts(load_tokenizer(located), chosen.shared, chosen.prompt, chosen.rollouts * chosen.steps)
    return {
        "model": str(located.folder),
        "threads": usable_cores(),
        "seed": SEED,
        "rank": RANK,
        "learning_rate": LEARNING_RATE,
        "rollouts": chosen.rollouts,
        "minibatch": chosen.rollouts // 2,
        "micro_batch": chosen.micro,
        "epochs": EPOCHS,
        "response_tokens": chosen.response,
        "shared": chosen.shared,
        "batches": [made[i : i + chosen.rollouts] for i in range(0, len(made), chosen.rollouts)],
    }


def prompts(tokenizer: Any, shared: int, length: int, count: int) -> list[list[int]]:
    """Token ids out of the built-in seeds, all with the same beginning. Cut where their text gives the same tokens
    again, because our engine is asked in text."""
    from refine_af.seeds import built_in_tasks

    text = "\n\n".join(f"{task.instruction}\n{task.input}\n{task.output}" for task in built_in_tasks())
    ids = tokenizer.encode(text, add_special_tokens=False)

    def pieces(size: int) -> Any:
        for start in range(0, len(ids) - size, 7):
            piece = ids[start : start + size]
            if tokenizer.encode(tokenizer.decode(piece), add_special_tokens=False) == piece:
                yield piece

    beginning = next(pieces(shared))
    return [beginning + own for own in islice(pieces(length - shared), count)]


def measured(name: str, python: Path, work: Path, result: Path) -> dict[str, Any]:
    here = Path(__file__).resolve()
    command = [sys.executable, str(here), "--worker", name, str(work), str(result)]
    if name == "trl":
        command = [str(python), str(here.with_name("trl_ppo.py")), str(work), str(result)]
    quiet = {"PYTHONWARNINGS": "ignore", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    # How long threads wait awake, as the command sets it: on a shared machine it matters, to both sides alike.
    environment = {**os.environ, **quiet, "GOMP_SPINCOUNT": "30000"}
    if name == "trl":
        environment.pop("PYTHONPATH", None)  # nothing of ours in there
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return found


def measure_ours(name: str, work_file: str, result_file: str) -> None:
    """Iterations as the policy stage makes them: merge and round the adapter, generate, judge, learn."""
    import torch

    from refine_af.config import Config
    from refine_af.engines.base import Prompts
    from refine_af.parts import Parts
    from refine_af.rl.actor_critic import ActorCritic
    from refine_af.rl.responses import Trajectory
    from refine_af.rl.trainer import Trainer

    work = json.loads(Path(work_file).read_text(encoding="utf-8"))
    lora = {"rank": RANK, "alpha": 2 * RANK, "targets": ["q_proj", "v_proj"]}
    algorithm = next((one for one in ("grpo", "rloo") if name.endswith(one)), "ppo")
    sizes = {key: work[key] for key in ("rollouts", "minibatch", "micro_batch", "epochs", "learning_rate")}
    config = Config.model_validate(
        {
            "threads": work["threads"],
            "model": {"dtype": "bfloat16" if name.endswith("bfloat16") else "float32"},
            "policy": {**sizes, "algorithm": algorithm, "lora": lora},
            "instances": {"sampling": {"max_tokens": work["response_tokens"], "temperature": 1.0, "top_p": 1.0}},
        }
    )
    shared = work["shared"] if "shared beginning" in name else 1
    steps = []
    with tempfile.TemporaryDirectory() as temporary:
        parts = Parts(config, Path(temporary) / "scratch")
        critic = None if config.policy.in_groups else config.policy.critic
        actor = ActorCritic(
            parts.network, config.policy.lora, temperature=1.0, label="embedded", seed=SEED, critic=critic
        )
        trainer = Trainer(actor, config.policy, SEED)
        with torch.no_grad():
            ids = torch.tensor([work["batches"][0][0]])
            log_probs = actor.policy(input_ids=ids).logits[0, :-1].log_softmax(-1)
            found = float(log_probs.gather(-1, ids[0, 1:, None]).mean())
        decode = parts.tokenizer.decode
        for number, batch in enumerate(work["batches"], 1):
            started = time.perf_counter()
            asked = Prompts(decode(batch[0][:shared]), tuple(decode(ids[shared:]) for ids in batch))
            engine = parts.shared_engine(adapter=True)
            (completions,) = engine.generate([asked], config.instances.sampling, seed=number)
            del engine
            generated = time.perf_counter()
            items = [
                Trajectory(tuple(ids[:shared]), tuple(ids[shared:]), one.token_ids)
                for ids, one in zip(batch, completions, strict=True)
            ]
            scores = [len(set(one.response_ids)) / len(one.response_ids) for one in items]
            figures = trainer.iterate(number, items, scores)
            steps.append(
                {
                    "seconds": time.perf_counter() - started,
                    "generation_seconds": generated - started,
                    "response_tokens": sum(len(one.response_ids) for one in items) / len(items),
                    "kl": figures["kl"],
                }
            )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    result = {"steps": steps, "log_prob": found, "peak_memory_bytes": peak}
    Path(result_file).write_text(json.dumps(result), encoding="utf-8")


def summary(runs: dict[str, list[dict[str, Any]]], chosen: argparse.Namespace) -> dict[str, Any]:
    import torch

    seen = {name: [one["log_prob"] for one in results] for name, results in runs.items()}
    exact = [value for name, values in seen.items() if not name.endswith("bfloat16") for value in values]
    all_of_them = [value for values in seen.values() for value in values]
    # bfloat16 moves it in the third digit.
    if max(exact) - min(exact) > 0.01 or max(all_of_them) - min(all_of_them) > 0.02:
        raise SystemExit(f"the contenders did not read the same weights: mean log-probabilities {seen}")
    contenders = {}
    for name, results in runs.items():
        steps = [step for one in results for step in one["steps"]]
        contenders[name] = {
            "samples_per_second": chosen.rollouts / statistics.median(s["seconds"] for s in steps),
            "seconds": [round(s["seconds"], 2) for s in steps],
            "generation_seconds": statistics.median(s["generation_seconds"] for s in steps),
            "response_tokens": statistics.fmean(s["response_tokens"] for s in steps),
            "peak_memory_gb": max(one["peak_memory_bytes"] for one in results) / 1e9,
        }
    return {
        "contenders": contenders,
        "sizes": {
            key: getattr(chosen, key)
            for key in ("micro", "repeats", "steps", "rollouts", "prompt", "shared", "response")
        },
        "old": list(OLD),
        "ours": {name: metadata.version(name) for name in ("torch", "transformers", "peft")},
        "bf16": torch.cpu._is_avx512_bf16_supported(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
        "python": platform.python_version(),
        "seed": SEED,
    }


def section(found: dict[str, Any]) -> str:
    sizes, contenders = found["sizes"], found["contenders"]
    base = contenders["trl"]
    shown = {
        "trl": "TRL 0.11.4, classic PPO",
        "ours": "refine-af",
        "ours, shared beginning": "refine-af, shared beginning",
        "ours, shared beginning, bfloat16": "refine-af, shared beginning, bfloat16",
        "ours, shared beginning, grpo": "refine-af, shared beginning, GRPO",
        "ours, shared beginning, rloo": "refine-af, shared beginning, RLOO",
    }
    lines = [
        "## A PPO step against TRL's (`benchmarks/ppo_speed.py`, `benchmarks/ppo_speed.json`)",
        "",
        f"SmolLM2-135M-Instruct, float32 unless said, LoRA r={RANK} on q and v, batch {sizes['rollouts']}, minibatch "
        f"{sizes['rollouts'] // 2}, {EPOCHS} epochs, prompts of {sizes['prompt']} tokens, responses of at most "
        f"{sizes['response']}. Machine: {found['machine']}, no GPU, Python {found['python']}, seed {found['seed']}. "
        f"Old: {', '.join(found['old'])}. Ours: {', '.join(f'{k} {v}' for k, v in found['ours'].items())}.",
        "",
        "| | samples/s | against TRL | generation, s | step, s | tokens a response | peak memory, GB | against TRL |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, one in contenders.items():
        speed, peak = one["samples_per_second"], one["peak_memory_gb"]
        lines.append(
            f"| {shown[name]} | {speed:.2f} | {speed / base['samples_per_second']:.1f} × | "
            f"{one['generation_seconds']:.1f} | {statistics.median(one['seconds']):.1f} | "
            f"{one['response_tokens']:.1f} | {peak:.2f} | {peak / base['peak_memory_gb']:.0%} |"
        )
    lines += [
        "",
        f"Medians of {sizes['repeats']} processes each, in turn, {sizes['steps']} iterations in each. In our "
        "generation time the adapter is merged and the weights are converted for the engine; minibatches go through "
        f'{sizes["micro"]} samples at a time, with the same gradient. "Shared beginning": '
        f"the first {sizes['shared']} tokens, which all prompts have in common, are computed once for a batch, as for "
        "the prompts of a run. In bfloat16 the base is rounded and adapter, critic and losses are in float32; this "
        f"machine {'computes' if found['bf16'] else 'does not compute'} in it (AVX512-BF16).",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
