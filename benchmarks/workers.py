"""How many tokens a second one worker with all threads decodes, against one single-threaded worker a core.

    python benchmarks/workers.py

Writes workers.json beside. The embedded model in int8; prompts behind a shared prefix, as the engine has them.
"""

from __future__ import annotations

import json
import os
import platform
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ctranslate2

from refine_af.config import load_config
from refine_af.engines.ctranslate2 import CTranslate2Engine
from refine_af.parts import Parts
from refine_af.prompts.pairs import pair_frame
from refine_af.seeds import load_seeds

PROMPTS, NEW_TOKENS, REPETITIONS = 32, 48, 5


def main() -> None:
    parts = Parts(load_config(preset="embedded"), Path("unused"))
    engine = parts.initial_engine
    assert isinstance(engine, CTranslate2Engine)
    folder = str(engine.folder)
    seeds = load_seeds(None).tasks
    instructions = [t.instruction for t in seeds if len(t.instruction.split()) < 16][:PROMPTS]
    shown = [t for t in seeds if t.words <= 22 and t.input and not t.is_classification]
    rows = []
    for count in (0, 1, 2):
        frame = pair_frame(parts.dialect, shown[:count], label_first=False)
        prefix = pieces(parts, frame.before)
        prompts = sorted((pieces(parts, i + frame.after) for i in instructions), key=len)
        rates: dict[str, list[float]] = {"one worker": [], "a worker a core": []}
        for _ in range(REPETITIONS):  # in turn, so that the machine's mood falls on both
            rates["one worker"].append(rate(folder, prefix, prompts, workers=1, threads=parts.threads))
            rates["a worker a core"].append(rate(folder, prefix, prompts, workers=parts.threads, threads=1))
        ratios = sorted(b / a for a, b in zip(*rates.values(), strict=True))
        rows.append(
            {
                "prefix_tokens": len(prefix),
                **{name: round(sorted(values)[len(values) // 2]) for name, values in rates.items()},
                "median_ratio": round(ratios[len(ratios) // 2], 2),
            }
        )
    found = {
        "rows": rows,
        "prompts": PROMPTS,
        "new_tokens": NEW_TOKENS,
        "repetitions": REPETITIONS,
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
        "ctranslate2": ctranslate2.__version__,
    }
    Path(__file__).with_name("workers.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=2))


def pieces(parts: Parts, text: str) -> list[str]:
    ids = parts.tokenizer.encode(text, add_special_tokens=False)
    tokens: list[str] = parts.tokenizer.convert_ids_to_tokens(ids)
    return tokens


def rate(folder: str, prefix: list[str], prompts: list[list[str]], *, workers: int, threads: int) -> float:
    """Tokens a second over all workers, the making of the workers left out."""
    size = -(-len(prompts) // workers)
    made = [ctranslate2.Generator(folder, inter_threads=1, intra_threads=threads) for _ in range(workers)]

    def run(place: int) -> int:
        results: Any = made[place].generate_batch(
            prompts[place * size : (place + 1) * size],
            static_prompt=prefix,
            min_length=NEW_TOKENS,
            max_length=NEW_TOKENS,
            sampling_topk=0,
            sampling_temperature=0.8,
            include_prompt_in_result=False,
        )
        return sum(len(r.sequences_ids[0]) for r in results)

    started = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        tokens = sum(pool.map(run, range(workers)))
    return tokens / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
