"""Generation with CTranslate2: int8 weights, the quickest engine on a CPU.

A policy's adapter is merged into a copy of the weights, which is converted anew each time that the policy changed.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ctranslate2
import numpy as np
from ctranslate2.converters import transformers as converters

from refine_af.config import SamplingConfig
from refine_af.engines.base import Completion, Prompts, cut_at_stop
from refine_af.records import content_id, derived_seed

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def can_convert(architecture: str) -> bool:
    """Whether CTranslate2 knows the architecture, by its configuration's class name such as ``LlamaConfig``."""
    return architecture in converters._MODEL_LOADERS


def convert(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, quantization: str) -> None:
    """Writes the model for CTranslate2 into ``folder``. Consumes the model: the converter takes it apart."""
    loader = converters._MODEL_LOADERS[type(model.config).__name__]
    # The converter collects garbage after every layer; frozen objects are left out of it, which makes 6 s 0.3 s.
    gc.freeze()
    try:
        spec = loader.get_model_spec(model)
    finally:
        gc.unfreeze()
    loader.set_config(spec.config, model, tokenizer)
    loader.set_vocabulary(spec, loader.get_vocabulary(model, tokenizer))
    spec.validate()
    spec.optimize(quantization=None if quantization == "float32" else quantization)
    folder.mkdir(parents=True, exist_ok=True)
    spec.save(str(folder))


class CTranslate2Engine:
    """One converted model. A new generator is made for each seeded batch, since its random state is set at birth."""

    name = "ctranslate2"

    def __init__(
        self,
        folder: Path,
        tokenizer: PreTrainedTokenizerBase,
        *,
        model: str,
        batch_size: int,
        threads: int,
    ) -> None:
        self.model = model
        self._folder = folder
        self._tokenizer = tokenizer
        self._batch_size = batch_size
        self._threads = threads
        self._scorer: Any = None

    def generate(
        self, prompts: Prompts, sampling: SamplingConfig, *, seed: int, stop: Sequence[str] = ()
    ) -> list[Completion]:
        prefix = self._pieces(prompts.prefix)
        suffixes = [self._pieces(s) for s in prompts.suffixes]
        if not all(suffixes):
            raise ValueError("a prompt is empty after the shared prefix")
        # Alike lengths share a batch: CTranslate2 forwards the shortest prompt's length at once, the rest step by step.
        order = sorted(range(len(suffixes)), key=lambda i: (len(suffixes[i]), i))
        results: list[Completion | None] = [None] * len(suffixes)
        for start in range(0, len(order), self._batch_size):
            chunk = order[start : start + self._batch_size]
            batch = [suffixes[i] for i in chunk]
            batch_seed = derived_seed(seed, content_id(prompts.prefix, *(prompts.suffixes[i] for i in chunk)))
            for i, completion in zip(chunk, self._run(prefix, batch, sampling, batch_seed, stop), strict=True):
                results[i] = completion
        return [r for r in results if r is not None]

    def _run(
        self,
        prefix: list[str],
        batch: list[list[str]],
        sampling: SamplingConfig,
        seed: int,
        stop: Sequence[str],
    ) -> list[Completion]:
        ctranslate2.set_random_seed(seed)
        generator = self._generator()
        greedy = sampling.temperature == 0
        stopped: set[int] = set()
        written: list[list[int]] = [[] for _ in batch]

        def watch(step: Any) -> bool:
            written[step.batch_id].append(step.token_id)
            # A stop string spans few tokens, so its end shows in the last of them.
            tail = self._tokenizer.decode(written[step.batch_id][-16:])
            if any(s in tail for s in stop):
                stopped.add(step.batch_id)
                return True
            return False

        results = generator.generate_batch(
            batch,
            static_prompt=prefix or None,
            max_length=sampling.max_tokens,
            sampling_topk=1 if greedy else 0,
            sampling_topp=1.0 if greedy else sampling.top_p,
            sampling_temperature=1.0 if greedy else sampling.temperature,
            repetition_penalty=sampling.repetition_penalty,
            include_prompt_in_result=False,
            return_end_token=True,
            callback=watch if stop else None,
        )
        return [self._completion(r.sequences_ids[0], stop, i in stopped) for i, r in enumerate(results)]

    def _completion(self, ids: list[int], stop: Sequence[str], stopped: bool) -> Completion:
        ended = bool(ids) and ids[-1] == self._tokenizer.eos_token_id
        text = self._tokenizer.decode(ids[:-1] if ended else ids, skip_special_tokens=False)
        text, found = cut_at_stop(text, stop)
        return Completion(text, tuple(ids), ended or stopped or found)

    def log_likelihoods(self, texts: Sequence[tuple[str, str]]) -> list[tuple[float, int]]:
        if self._scorer is None:
            self._scorer = self._generator()
        pieces = [(self._pieces(a) or [self._tokenizer.eos_token], self._pieces(b)) for a, b in texts]
        results = self._scorer.score_batch(
            [a + b for a, b in pieces], max_batch_size=self._batch_size, max_input_length=0
        )
        # log_probs[i] is that of token i + 1.
        return [
            (float(np.sum(r.log_probs[len(a) - 1 :])) if b else 0.0, len(b))
            for (a, b), r in zip(pieces, results, strict=True)
        ]

    def _generator(self) -> Any:
        return ctranslate2.Generator(str(self._folder), device="cpu", inter_threads=1, intra_threads=self._threads)

    def _pieces(self, text: str) -> list[str]:
        pieces: list[str] = self._tokenizer.convert_ids_to_tokens(
            self._tokenizer.encode(text, add_special_tokens=False)
        )
        return pieces
