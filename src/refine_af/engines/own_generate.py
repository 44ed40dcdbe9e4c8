"""Decoding by a network's own ``generate``: for what our decoder can't do, in batches that are padded on the left, or
of rows of one length where padding would matter."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch
from transformers import LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from refine_af.config import SamplingConfig
from refine_af.ends import Ends
from refine_af.engines.base import Completion, Stop
from refine_af.engines.decoder import sees_by_masks, window_of
from refine_af.engines.ending import Ending, completion_of
from refine_af.records import content_id, derived_seed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class OwnGenerate:
    """Of any causal network; ``pads`` says whether rows that are padded on the left come out as they do alone. A row's
    draws depend on the rows of its batch."""

    def __init__(
        self, network: Any, tokenizer: PreTrainedTokenizerBase, *, ends: Ends, batch_size: int, pads: bool
    ) -> None:
        self._network = network
        self._pads = pads
        self._tokenizer = tokenizer
        self._ends = ends
        self._batch_size = batch_size

    def complete(
        self,
        prefix: list[int],
        suffixes: list[list[int]],
        sampling: SamplingConfig,
        seed: int,
        stop: Stop,
        log_probs: bool,
    ) -> list[Completion]:
        """One completion a suffix, in order; the prefix goes through the network once for all."""
        results: list[Completion | None] = [None] * len(suffixes)
        longest = len(prefix) + max(map(len, suffixes), default=0) + sampling.max_tokens
        cache = self._cached(prefix, longest) if len(suffixes) > 1 else None
        for start, chunk in self._chunks(suffixes):
            batch_seed = derived_seed(seed, start, content_id(*(str(prefix + suffixes[i]) for i in chunk)))
            made = self._run(prefix, [suffixes[i] for i in chunk], cache, sampling, batch_seed, stop, log_probs)
            for i, completion in zip(chunk, made, strict=True):
                results[i] = completion
        return [r for r in results if r is not None]

    def _chunks(self, suffixes: list[list[int]]) -> Iterator[tuple[int, list[int]]]:
        """The places of what is decoded together, the short ones first, with how many come before."""
        order = sorted(range(len(suffixes)), key=lambda i: (len(suffixes[i]), i))
        start = 0
        while start < len(order):
            chunk = order[start : start + self._batch_size]
            if not self._pads:
                chunk = [i for i in chunk if len(suffixes[i]) == len(suffixes[chunk[0]])]
            yield start, chunk
            start += len(chunk)

    @torch.no_grad()
    def _cached(self, prefix: list[int], longest: int) -> Any:
        """The keys and values of the prefix; None where there is none, and where padding behind it would matter: to a
        network that keeps something else or counts places, and in rows that outgrow a window, in which it would take
        up places."""
        window = window_of(self._network)
        if not prefix or not sees_by_masks(self._network) or (window is not None and longest > window):
            return None
        ids = torch.tensor([prefix], device=self._network.device)
        return self._network(input_ids=ids, use_cache=True, logits_to_keep=1).past_key_values

    @torch.no_grad()
    def _run(
        self,
        prefix: list[int],
        suffixes: list[list[int]],
        cache: Any,
        sampling: SamplingConfig,
        seed: int,
        stop: Stop,
        log_probs: bool,
    ) -> list[Completion]:
        pad = self._tokenizer.pad_token_id
        device = self._network.device
        longest = max(map(len, suffixes))
        # (B, P); what pads a prompt stands before what is computed here, so behind a prefix that is cached.
        gaps = [longest - len(s) for s in suffixes]
        lead = [1] * len(prefix)
        if cache is None:
            rows = [[pad] * n + prefix + s for n, s in zip(gaps, suffixes, strict=True)]
            masks = [[0] * n + lead + [1] * len(s) for n, s in zip(gaps, suffixes, strict=True)]
        else:
            rows = [prefix + [pad] * n + s for n, s in zip(gaps, suffixes, strict=True)]
            masks = [lead + [0] * n + [1] * len(s) for n, s in zip(gaps, suffixes, strict=True)]
        ids, mask = torch.tensor(rows, device=device), torch.tensor(masks, device=device)
        longest += len(prefix)
        choice: dict[str, Any] = {"do_sample": False}
        if sampling.temperature > 0:
            choice = {
                "do_sample": True,
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
                "top_k": sampling.top_k,
            }
        watch = _TokenLogProbs() if log_probs else None
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            full = self._network.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=sampling.max_tokens,
                repetition_penalty=sampling.repetition_penalty,
                pad_token_id=pad,
                eos_token_id=list(self._ends.all),
                past_key_values=_copies(cache, len(rows)),
                stopping_criteria=StoppingCriteriaList([_StopStrings(self._tokenizer, longest, stop)])
                if stop
                else None,
                logits_processor=LogitsProcessorList([watch] if watch else []),
                **choice,
            )
        found = watch.finished(full)[:, longest:].tolist() if watch else [None] * len(rows)
        return [self._completion(row, stop, of) for row, of in zip(full[:, longest:].tolist(), found, strict=True)]

    def _completion(self, ids: list[int], stop: Stop, log_probs: list[float] | None) -> Completion:
        # Behind a stop string an end is but padding, and is left out with all that follows one.
        end = next((place for place, token in enumerate(ids) if token in self._ends.all), None)
        if end is not None:
            ids = ids[: end + 1]
        return completion_of(self._tokenizer, ids, stop, log_probs, end_token=end is not None)


def _copies(cache: Any, rows: int) -> Any:
    """The cache of one text as that of a batch of ``rows`` equal ones; the original stays as it is."""
    if cache is None:
        return None
    copy = deepcopy(cache)
    copy.batch_repeat_interleave(rows)
    return copy


class _StopStrings(StoppingCriteria):
    """Ends a row as soon as what stops it stands in what was written after the prompt."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, prompt_length: int, stop: Stop) -> None:
        self._start = prompt_length
        self._ending = Ending(tokenizer, stop)

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        rows = input_ids[:, self._start :].tolist()
        return torch.tensor([self._ending.is_reached(row) for row in rows], device=input_ids.device)


class _TokenLogProbs(LogitsProcessor):
    """Notes each sampled token's log-probability at temperature 1, and changes nothing.

    It runs before the temperature and the cuts. A step's token is known at the next one, so one step's logits are held.
    """

    def __init__(self) -> None:
        self._before: Any = None  # (B, V)
        self._columns: list[Any] = []

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        self._note(input_ids)
        self._before = scores.float()
        return scores

    def _note(self, ids: Any) -> None:
        if self._before is None:  # nothing was sampled yet
            self._columns.append(torch.zeros(ids.shape, device=ids.device))
            return
        chosen = self._before.gather(1, ids[:, -1:])
        self._columns.append(chosen - self._before.logsumexp(1, keepdim=True))

    def finished(self, full: Any) -> Any:
        """As ``full`` (B, prompt + sampled), zero over the prompt."""
        self._note(full)
        return torch.cat(self._columns, 1)
