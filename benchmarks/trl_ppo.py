"""One process of the classic PPOTrainer of TRL 0.11.4, timed step by step; ppo_speed.py runs it in its own environment.

    python trl_ppo.py WORK.json RESULT.json

Knows nothing of refine_af, which that environment hasn't got: model folder, prompts and sizes come in WORK.json.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from transformers import LlamaConfig, PreTrainedTokenizerFast
from trl import AutoModelForCausalLMWithValueHead, PPOConfig, PPOTrainer


def main(work_file: str, result_file: str) -> None:
    work = json.loads(Path(work_file).read_text(encoding="utf-8"))
    torch.manual_seed(work["seed"])
    torch.set_num_threads(work["threads"])
    folder = Path(work["model"])
    named = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), eos_token=named["eos_token"], pad_token=named["pad_token"]
    )
    trainer = _trainer(work, folder, tokenizer)
    found = _log_prob(trainer.model.pretrained_model, work["batches"][0][0])
    steps = [_step(trainer, tokenizer, work, batch) for batch in work["batches"]]
    result = {
        "steps": steps,
        "log_prob": found,
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        * (1 if sys.platform == "darwin" else 1024),
    }
    Path(result_file).write_text(json.dumps(result), encoding="utf-8")


def _trainer(work: dict[str, Any], folder: Path, tokenizer: Any) -> Any:
    written = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config = LlamaConfig.from_pretrained(folder)
    # Newer transformers write this into a mapping that this version doesn't read.
    config.rope_theta = written.get("rope_parameters", {}).get("rope_theta", config.rope_theta)
    model = AutoModelForCausalLMWithValueHead.from_pretrained(
        str(folder),
        config=config,
        torch_dtype=torch.float32,
        peft_config=LoraConfig(
            r=work["rank"], lora_alpha=2 * work["rank"], target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"
        ),
    )
    settings = PPOConfig(
        learning_rate=work["learning_rate"],
        batch_size=work["rollouts"],
        mini_batch_size=work["minibatch"],
        ppo_epochs=work["epochs"],
        seed=work["seed"],
    )
    return PPOTrainer(settings, model, ref_model=None, tokenizer=tokenizer)  # reference: the adapter switched off


@torch.no_grad()
def _log_prob(model: Any, ids: list[int]) -> float:
    """Mean log-probability of a prompt's tokens: shows that both sides have read the same weights."""
    rows = torch.tensor([ids])
    return float(model(input_ids=rows).logits[0, :-1].log_softmax(-1).gather(-1, rows[0, 1:, None]).mean())


def _step(trainer: Any, tokenizer: Any, work: dict[str, Any], batch: list[list[int]]) -> dict[str, float]:
    started = time.perf_counter()
    queries = [torch.tensor(ids) for ids in batch]
    responses = trainer.generate(
        queries,
        return_prompt=False,
        batch_size=work["rollouts"],
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        max_new_tokens=work["response_tokens"],
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    generated = time.perf_counter()
    # How varied the tokens are: any number will do, and it takes no time.
    scores = [torch.tensor(len(set(r.tolist())) / len(r)) for r in responses]
    stats = trainer.step(queries, responses, scores)
    return {
        "seconds": time.perf_counter() - started,
        "generation_seconds": generated - started,
        "response_tokens": sum(map(len, responses)) / len(responses),
        "kl": float(stats["objective/kl"]),
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
