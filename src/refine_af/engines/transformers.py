"""Generation with transformers: any causal model, on a CPU or a GPU, with the policy's adapter in place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import StoppingCriteria, StoppingCriteriaList

from refine_af.config import SamplingConfig
from refine_af.engines.base import Completion, Prompts, cut_at_stop
from refine_af.records import content_id, derived_seed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class TransformersEngine:
    """Works on a model in memory, without a copy of it: what the model's adapter is now, the engine uses."""

    name = "transformers"

    def __init__(
        self,
        network: Any,
        tokenizer: PreTrainedTokenizerBase,
        *,
        model: str,
        batch_size: int,
        adapter: bool = True,
    ) -> None:
        self.model = model
        self._adapter = adapter
        self._network = network
        self._tokenizer = tokenizer
        self._batch_size = batch_size

    @contextmanager
    def _ready(self) -> Iterator[None]:
        """Evaluation mode, and an adapter on the network switched off unless it is wanted."""
        layers = [] if self._adapter else [m for m in self._network.modules() if isinstance(m, BaseTunerLayer)]
        training = self._network.training
        self._network.eval()
        for layer in layers:
            layer.enable_adapters(False)
        try:
            yield
        finally:
            for layer in layers:
                layer.enable_adapters(True)
            self._network.train(training)

    def generate(
        self, prompts: Prompts, sampling: SamplingConfig, *, seed: int, stop: Sequence[str] = ()
    ) -> list[Completion]:
        texts = [prompts.prefix + s for s in prompts.suffixes]
        prefix = self._encoded(prompts.prefix)
        ids = [prefix + self._encoded(s) for s in prompts.suffixes]
        order = sorted(range(len(ids)), key=lambda i: (len(ids[i]), i))
        results: list[Completion | None] = [None] * len(ids)
        for start in range(0, len(order), self._batch_size):
            chunk = order[start : start + self._batch_size]
            batch_seed = derived_seed(seed, start, content_id(*(texts[i] for i in chunk)))
            with self._ready():
                made = self._run([ids[i] for i in chunk], sampling, batch_seed, stop)
            for i, completion in zip(chunk, made, strict=True):
                results[i] = completion
        return [r for r in results if r is not None]

    @torch.no_grad()
    def _run(
        self, batch: list[list[int]], sampling: SamplingConfig, seed: int, stop: Sequence[str]
    ) -> list[Completion]:
        longest = max(map(len, batch))
        pad, end = self._tokenizer.pad_token_id, self._tokenizer.eos_token_id
        device = self._network.device
        ids = torch.tensor([[pad] * (longest - len(p)) + p for p in batch], device=device)  # (B, P), left-padded
        mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in batch], device=device)
        choice: dict[str, Any] = {"do_sample": False}
        if sampling.temperature > 0:
            choice = {
                "do_sample": True,
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
                "top_k": sampling.top_k,
            }
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            full = self._network.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=sampling.max_tokens,
                repetition_penalty=sampling.repetition_penalty,
                pad_token_id=pad,
                eos_token_id=end,
                stopping_criteria=StoppingCriteriaList([_StopStrings(self._tokenizer, longest, stop)])
                if stop
                else None,
                **choice,
            )
        return [self._completion(row, stop) for row in full[:, longest:].tolist()]

    def _completion(self, ids: list[int], stop: Sequence[str]) -> Completion:
        end = self._tokenizer.eos_token_id
        ended = end in ids
        if ended:
            ids = ids[: ids.index(end) + 1]
        text, found = cut_at_stop(self._tokenizer.decode(ids[:-1] if ended else ids, skip_special_tokens=False), stop)
        if found:  # also where the end token is but the padding after it
            ids = self._until_stop(ids, stop)
        return Completion(text, tuple(ids), ended or found)

    def _until_stop(self, ids: list[int], stop: Sequence[str]) -> list[int]:
        """The tokens up to the one that completed a stop string; what follows was padding or overrun."""
        for n in range(1, len(ids) + 1):
            if any(s in self._tokenizer.decode(ids[:n]) for s in stop):
                return ids[:n]
        return ids

    @torch.no_grad()
    def log_likelihoods(self, texts: Sequence[tuple[str, str]]) -> list[tuple[float, int]]:
        end = self._tokenizer.eos_token_id
        pairs = [(self._encoded(a) or [end], self._encoded(b)) for a, b in texts]
        order = sorted(range(len(pairs)), key=lambda i: len(pairs[i][0]) + len(pairs[i][1]))
        results: list[tuple[float, int]] = [(0.0, 0)] * len(pairs)
        for start in range(0, len(order), self._batch_size):
            chunk = order[start : start + self._batch_size]
            with self._ready():
                values = self._score([pairs[i] for i in chunk])
            for i, value in zip(chunk, values, strict=True):
                results[i] = (value, len(pairs[i][1]))
        return results

    def _encoded(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids

    def _score(self, pairs: list[tuple[list[int], list[int]]]) -> list[float]:
        longest = max(len(a) + len(b) for a, b in pairs)
        # Right padding under a causal mask: what is real never sees it.
        ids = torch.tensor(
            [a + b + [self._tokenizer.pad_token_id] * (longest - len(a) - len(b)) for a, b in pairs],
            device=self._network.device,
        )
        logits = self._network(input_ids=ids, use_cache=False).logits[:, :-1].float()  # (B, L - 1, V)
        chosen = logits.gather(-1, ids[:, 1:, None]).squeeze(-1) - logits.logsumexp(-1)  # (B, L - 1)
        return [
            float(chosen[i, len(a) - 1 : len(a) + len(b) - 1].sum()) if b else 0.0 for i, (a, b) in enumerate(pairs)
        ]


class _StopStrings(StoppingCriteria):
    """Ends a row as soon as one of the strings stands in what was written after the prompt."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, prompt_length: int, stop: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._start = prompt_length
        self._stop = tuple(stop)

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        tails = self._tokenizer.batch_decode(input_ids[:, max(self._start, input_ids.shape[1] - 16) :])
        return torch.tensor([any(s in t for s in self._stop) for t in tails], device=input_ids.device)
