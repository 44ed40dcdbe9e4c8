"""Generation with CTranslate2: int8 weights, the quickest engine on a CPU.

A policy's adapter is merged into a copy of the weights, which is converted anew each time that the policy changed.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ctranslate2
import numpy as np
from ctranslate2.converters import transformers as converters

from refine_af.batching import alike
from refine_af.config import SamplingConfig
from refine_af.ends import Ends
from refine_af.engines.base import NO_STOP, Completion, Floats, Prompts, Stop, TokenScores, common_beginning
from refine_af.engines.ending import Ending
from refine_af.engines.shares import ROWS_OF_A_WORKER, Job, evenly, jobs_of, split
from refine_af.records import content_id, derived_seed

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def can_convert(architecture: str) -> bool:
    """Whether CTranslate2 knows the architecture, by its configuration's class name such as ``LlamaConfig``. What it
    makes of Gemma 2 leaves out the caps of its scores and logits."""
    return architecture in converters._MODEL_LOADERS and architecture != "Gemma2Config"


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
    # A tokenizer need not have a token that begins a text, but the format wants one named.
    spec.config.bos_token = spec.config.bos_token or spec.config.eos_token
    loader.set_vocabulary(spec, loader.get_vocabulary(model, tokenizer))
    spec.validate()
    spec.optimize(quantization=None if quantization == "float32" else quantization)
    folder.mkdir(parents=True, exist_ok=True)
    spec.save(str(folder))


_BYTES_OF_ALL_WORKERS = 2 * 1024**3  # of their copies of the weights
_SCORED_AT_ONCE = 8  # the logits of every position are held, so small batches are quicker
_LOGITS_AT_ONCE = 2**24  # 64 MiB in each worker


class CTranslate2Engine:
    """One converted model. New workers are made for each sampled batch, since their random state is set at birth;
    greedy ones share workers, which remember the prefix that they computed last."""

    name = "ctranslate2"

    def __init__(
        self,
        folder: Path,
        tokenizer: PreTrainedTokenizerBase,
        *,
        model: str,
        ends: Ends,
        batch_size: int,
        threads: int,
    ) -> None:
        self.model = model
        self.folder = folder
        self._tokenizer = tokenizer
        self._ends = ends
        self._batch_size = batch_size
        self._threads = threads
        copies = _BYTES_OF_ALL_WORKERS // (folder / "model.bin").stat().st_size
        self._most_workers = max(1, min(threads, copies))

    def generate(
        self,
        groups: Sequence[Prompts],
        sampling: SamplingConfig,
        *,
        seed: int,
        stop: Stop = NO_STOP,
        log_probs: bool = False,
    ) -> list[list[Completion]]:
        parts = [(self._pieces(one.prefix), [self._pieces(s) for s in one.suffixes]) for one in groups]
        if not all(suffix for _, suffixes in parts for suffix in suffixes):
            raise ValueError("a prompt is empty after the shared prefix")
        if sampling.temperature > 0:
            return [
                self._sampled(prefix, suffixes, sampling, derived_seed(seed, number), stop, log_probs)
                for number, (prefix, suffixes) in enumerate(parts)
            ]
        # Also for a few prompts, each worker shall have something to do.
        count = sum(len(suffixes) for _, suffixes in parts)
        size = min(self._batch_size, max(ROWS_OF_A_WORKER, -(-count // self._most_workers)))
        return self._greedy(parts, size, sampling, stop, log_probs)

    def _sampled(
        self,
        prefix: list[str],
        suffixes: list[list[str]],
        sampling: SamplingConfig,
        seed: int,
        stop: Stop,
        log_probs: bool,
    ) -> list[Completion]:
        # Alike lengths share a batch: CTranslate2 forwards the shortest prompt's length at once, the rest stepwise.
        order = sorted(range(len(suffixes)), key=lambda i: (len(suffixes[i]), i))
        results: list[Completion | None] = [None] * len(suffixes)
        for start in range(0, len(order), self._batch_size):
            parts = split(order[start : start + self._batch_size], self._most_workers)
            seeds = [
                derived_seed(seed, start, place, content_id(*(str(prefix + suffixes[i]) for i in part)))
                for place, part in enumerate(parts)
            ]
            with ThreadPoolExecutor(len(parts)) as pool:
                workers = [pool.submit(self._seeded_worker, s, len(parts)).result() for s in seeds]
                jobs = [
                    pool.submit(self._run, worker, prefix, [suffixes[i] for i in part], sampling, stop, log_probs)
                    for worker, part in zip(workers, parts, strict=True)
                ]
                for part, job in zip(parts, jobs, strict=True):
                    for i, completion in zip(part, job.result(), strict=True):
                        results[i] = completion
        return [r for r in results if r is not None]

    def answers(self, groups: Sequence[Sequence[str]], max_tokens: int, stop: Stop = NO_STOP) -> list[list[Completion]]:
        parts: list[tuple[list[str], list[list[str]]]] = []
        for group in groups:
            rows = [self._pieces(prompt) for prompt in group]
            if not all(rows):
                raise ValueError("a prompt is empty")
            shared = common_beginning(rows) if len(rows) > 1 else 0
            parts.append((rows[0][:shared] if rows else [], [row[shared:] for row in rows]))
        greedy = SamplingConfig(max_tokens=max_tokens, temperature=0)
        return self._greedy(parts, self._batch_size, greedy, stop, log_probs=False)

    def _greedy(
        self,
        parts: Sequence[tuple[list[str], list[list[str]]]],
        size: int,
        sampling: SamplingConfig,
        stop: Stop,
        log_probs: bool,
    ) -> list[list[Completion]]:
        """Of groups of (prefix, suffixes). Neighbours go to one worker, so that few prefixes are read twice."""
        jobs: list[Job] = []
        first = 0
        for prefix, suffixes in parts:
            jobs += jobs_of(prefix, suffixes, first, size, sampling.max_tokens)
            first += len(suffixes)
        completions: dict[int, Completion] = {}

        def work(worker: Any, mine: list[Job]) -> None:
            for job in mine:
                made = self._run(worker, job.prefix, job.suffixes, sampling, stop, log_probs)
                completions.update(zip(job.places, made, strict=True))

        with ThreadPoolExecutor(self._most_workers) as pool:
            shares = evenly(jobs, self._most_workers)
            for one in [pool.submit(work, worker, mine) for worker, mine in zip(self._workers, shares, strict=True)]:
                one.result()
        done = iter(completions[place] for place in range(first))
        return [[next(done) for _ in suffixes] for _, suffixes in parts]

    def _run(
        self,
        worker: Any,
        prefix: list[str],
        batch: list[list[str]],
        sampling: SamplingConfig,
        stop: Stop,
        log_probs: bool,
    ) -> list[Completion]:
        """One completion a row; ``batch`` is in the order of the lengths."""
        single = sum(len(row) == 1 for row in batch)
        if 0 < single < len(batch):
            # CTranslate2 gives pieces of the longer prompts back as if they were written where the shortest has one.
            if not prefix:
                parts = (batch[:single], batch[single:])
                return [one for part in parts for one in self._run(worker, prefix, part, sampling, stop, log_probs)]
            prefix, batch = prefix[:-1], [[prefix[-1], *row] for row in batch]
        greedy = sampling.temperature == 0
        stopped: set[int] = set()
        written: list[list[int]] = [[] for _ in batch]
        found: list[list[float]] = [[] for _ in batch]
        ending = Ending(self._tokenizer, stop)

        def watch(step: Any) -> bool:
            written[step.batch_id].append(step.token_id)
            if log_probs:
                # Of the whole distribution, before the temperature. Its logits at every step can be had too
                # (return_logits_vocab), but 4.8.5 mixes those of a batch's rows up once a row has ended.
                found[step.batch_id].append(step.log_prob)
            if reached := ending.is_reached(written[step.batch_id]):
                stopped.add(step.batch_id)
            return reached

        results = worker.generate_batch(
            batch,
            static_prompt=prefix or None,
            max_length=sampling.max_tokens,
            end_token=list(self._ends.all),
            sampling_topk=1 if greedy else sampling.top_k,
            sampling_topp=1.0 if greedy else sampling.top_p,
            sampling_temperature=1.0 if greedy else sampling.temperature,
            repetition_penalty=sampling.repetition_penalty,
            include_prompt_in_result=False,
            return_end_token=True,
            return_scores=log_probs,
            callback=watch if stop or log_probs else None,
        )
        return [
            self._completion(r.sequences_ids[0], stop, i in stopped, tuple(found[i]) if log_probs else None)
            for i, r in enumerate(results)
        ]

    def _completion(self, ids: list[int], stop: Stop, stopped: bool, log_probs: tuple[float, ...] | None) -> Completion:
        ended = bool(ids) and ids[-1] in self._ends.all
        text = self._tokenizer.decode(ids[:-1] if ended else ids, skip_special_tokens=False)
        text, found = stop.cut(text)
        return Completion(text, tuple(ids), ended or stopped or found, log_probs)

    def log_probs(self, texts: Sequence[tuple[str, str]]) -> list[Floats]:
        pieces = self._context_and_continuation(texts)
        results = [np.zeros(0, np.float32)] * len(pieces)

        def score(worker: Any, batch: list[int]) -> None:
            scored = worker.score_batch([pieces[i][0] + pieces[i][1] for i in batch], max_input_length=0)
            for i, one in zip(batch, scored, strict=True):
                context, continuation = pieces[i]
                # log_probs[k] is that of token k + 1.
                if continuation:
                    results[i] = np.asarray(one.log_probs[len(context) - 1 :], np.float32)

        self._share_out(pieces, score)
        return results

    def token_scores(self, texts: Sequence[tuple[str, str]]) -> list[TokenScores]:
        pieces = self._context_and_continuation(texts)
        results: list[TokenScores | None] = [None] * len(pieces)

        def score(worker: Any, batch: list[int]) -> None:
            logits = np.asarray(worker.forward_batch([pieces[i][0] + pieces[i][1] for i in batch]))  # (B, T, V)
            for row, i in enumerate(batch):
                context, continuation = pieces[i]
                places = logits[row, len(context) - 1 : len(context) + len(continuation)]
                tokens = self._tokenizer.convert_tokens_to_ids(continuation)
                results[i] = _token_scores(places, tokens, self._ends.all)

        self._share_out(pieces, score)
        return [r for r in results if r is not None]

    def _context_and_continuation(self, texts: Sequence[tuple[str, str]]) -> list[tuple[list[str], list[str]]]:
        return [(self._pieces(a) or [self._tokenizer.eos_token], self._pieces(b)) for a, b in texts]

    def _share_out(self, pieces: list[tuple[list[str], list[str]]], score: Callable[[Any, list[int]], None]) -> None:
        """Gives each worker its share of batches, each of texts of like lengths, by their places in ``pieces``."""
        lengths = [len(a) + len(b) for a, b in pieces]
        batches = list(alike(lengths, _SCORED_AT_ONCE, _LOGITS_AT_ONCE // len(self._tokenizer)))

        def work(worker: Any, mine: list[list[int]]) -> None:
            for batch in mine:
                score(worker, batch)

        workers = self._workers
        with ThreadPoolExecutor(len(workers)) as pool:
            jobs = [pool.submit(work, w, batches[k :: len(workers)]) for k, w in enumerate(workers)]
            for job in jobs:
                job.result()

    @cached_property
    def _workers(self) -> list[Any]:
        with ThreadPoolExecutor(1) as pool:
            return [pool.submit(self._worker, self._most_workers).result() for _ in range(self._most_workers)]

    def _worker(self, siblings: int) -> Any:
        """To be called in a thread of its own: a worker that is made sets the number of OpenMP threads of the thread
        that makes it, which torch would then use too, and sum in another order than in a resumed run."""
        return ctranslate2.Generator(
            str(self.folder), device="cpu", inter_threads=1, intra_threads=max(1, self._threads // siblings)
        )

    def _seeded_worker(self, seed: int, siblings: int) -> Any:
        """A worker's generator of random numbers takes the seed that stands when it first samples: so it does, here."""
        ctranslate2.set_random_seed(seed)
        worker = self._worker(siblings)
        worker.generate_batch([[self._tokenizer.eos_token]], max_length=1, sampling_topk=0)
        return worker

    def _pieces(self, text: str) -> list[str]:
        pieces: list[str] = self._tokenizer.convert_ids_to_tokens(
            self._tokenizer.encode(text, add_special_tokens=False)
        )
        return pieces


def _token_scores(logits: Floats, tokens: Sequence[int], end: Sequence[int]) -> TokenScores:
    """From the logits (n + 1, V) in each of n tokens' places and behind the last."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    chosen, ends = shifted[np.arange(len(tokens)), list(tokens)], np.logaddexp.reduce(shifted[:, list(end)], axis=1)
    normalizer = np.log(np.exp(shifted, out=shifted).sum(axis=1))  # (n + 1,)
    return TokenScores(chosen - normalizer[:-1], ends - normalizer)
