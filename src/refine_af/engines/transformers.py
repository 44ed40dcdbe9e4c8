"""Generation with transformers: any causal model, on a CPU or a GPU, with the policy's adapter in place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from refine_af.batching import padded_batches
from refine_af.config import SamplingConfig
from refine_af.ends import Ends
from refine_af.engines.base import NO_STOP, Completion, Floats, Prompts, Stop, TokenScores, common_beginning
from refine_af.engines.decoder import Decoder, Written, can_decode
from refine_af.engines.ending import Ending, closing_tokens, completion_of
from refine_af.engines.fused import SAMPLE, MakeProduct, fused_copy
from refine_af.engines.reading import Text
from refine_af.engines.steps import cuda_recorder
from refine_af.records import content_id, derived_seed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class TransformersEngine:
    """Works on a model in memory, without a copy of it: what the model's adapter is now, the engine uses.

    With ``product`` it works on a copy whose linear layers are products of that kind, with what the adapter is when the
    engine is first asked. Networks that :func:`can_decode` refuses are decoded by their own ``generate``.
    """

    name = "transformers"

    def __init__(
        self,
        network: Any,
        tokenizer: PreTrainedTokenizerBase,
        *,
        model: str,
        ends: Ends,
        batch_size: int,
        adapter: bool = True,
        product: MakeProduct | None = None,
    ) -> None:
        self.model = model
        self._adapter = adapter
        self._given = network
        self._product = product
        self._tokenizer = tokenizer
        self._ends = ends
        self._batch_size = batch_size

    @cached_property
    def _network(self) -> Any:
        if self._product is None:
            return self._given
        return fused_copy(self._given, torch.tensor([self._sample]), self._product)

    @cached_property
    def _decoder(self) -> Decoder | None:
        """None for a network that has to decode by itself. Asked of what is given, which computes exactly."""
        if not can_decode(self._given, self._sample[:12]):
            return None
        recorder = cuda_recorder if self._given.device.type == "cuda" else None
        return Decoder(self._network, ends=self._ends.all, most_rows=self._batch_size, recorder=recorder)

    @cached_property
    def _closing_tokens(self) -> torch.Tensor:
        return torch.tensor(closing_tokens(self._tokenizer, self._ends), device=self._given.device)

    @property
    def _sample(self) -> list[int]:
        return self._encoded(SAMPLE)

    @contextmanager
    def _ready(self) -> Iterator[None]:
        """Evaluation mode, and an adapter on the network switched off unless it is wanted."""
        layers = [] if self._adapter else [m for m in self._given.modules() if isinstance(m, BaseTunerLayer)]
        training = self._given.training
        self._given.eval()
        for layer in layers:
            layer.enable_adapters(False)
        try:
            yield
        finally:
            for layer in layers:
                layer.enable_adapters(True)
            self._given.train(training)

    def generate(
        self,
        groups: Sequence[Prompts],
        sampling: SamplingConfig,
        *,
        seed: int,
        stop: Stop = NO_STOP,
        log_probs: bool = False,
    ) -> list[list[Completion]]:
        parts = [(self._encoded(one.prefix), [self._encoded(s) for s in one.suffixes]) for one in groups]
        if not all(suffix for _, suffixes in parts for suffix in suffixes):
            raise ValueError("a prompt is empty after the shared prefix")
        done = iter(self._completed(parts, sampling, seed, stop, log_probs))
        return [[next(done) for _ in suffixes] for _, suffixes in parts]

    def answers(self, groups: Sequence[Sequence[str]], max_tokens: int, stop: Stop = NO_STOP) -> list[list[Completion]]:
        parts = []
        for group in groups:
            rows = [self._encoded(prompt) for prompt in group]
            if not all(rows):
                raise ValueError("a prompt is empty")
            shared = common_beginning(rows) if len(rows) > 1 else 0
            parts.append((rows[0][:shared] if rows else [], [row[shared:] for row in rows]))
        done = iter(self._completed(parts, SamplingConfig(max_tokens=max_tokens, temperature=0), 0, stop))
        return [[next(done) for _ in group] for group in groups]

    def _completed(
        self,
        groups: Sequence[tuple[list[int], list[list[int]]]],
        sampling: SamplingConfig,
        seed: int,
        stop: Stop,
        log_probs: bool = False,
    ) -> list[Completion]:
        """Of groups of (beginning, what follows it in each row), one a row, in order."""
        with self._ready():
            if self._decoder is None:
                return [
                    one
                    for number, group in enumerate(groups)
                    for one in self._by_generate(*group, sampling, derived_seed(seed, number), stop, log_probs)
                ]
            is_stopped = Ending(self._tokenizer, stop).is_reached if stop else None
            written = self._decoder.complete(groups, sampling, seed=seed, is_stopped=is_stopped, log_probs=log_probs)
        return [self._completion_of(one, stop, log_probs) for one in written]

    def _completion_of(self, written: Written, stop: Stop, log_probs: bool) -> Completion:
        ended = written.tokens[-1] in self._ends.all
        text = self._tokenizer.decode(written.tokens[:-1] if ended else written.tokens, skip_special_tokens=False)
        found = tuple(written.log_probs) if log_probs else None
        return Completion(stop.cut(text)[0], tuple(written.tokens), ended or written.stopped, found)

    def _by_generate(
        self,
        prefix: list[int],
        suffixes: list[list[int]],
        sampling: SamplingConfig,
        seed: int,
        stop: Stop,
        log_probs: bool,
    ) -> list[Completion]:
        """One completion a suffix, in order; the prefix goes through the network once for all."""
        order = sorted(range(len(suffixes)), key=lambda i: (len(suffixes[i]), i))
        results: list[Completion | None] = [None] * len(suffixes)
        cache = self._cached(prefix) if len(suffixes) > 1 else None
        for start in range(0, len(order), self._batch_size):
            chunk = order[start : start + self._batch_size]
            batch_seed = derived_seed(seed, start, content_id(*(str(prefix + suffixes[i]) for i in chunk)))
            made = self._run(prefix, [suffixes[i] for i in chunk], cache, sampling, batch_seed, stop, log_probs)
            for i, completion in zip(chunk, made, strict=True):
                results[i] = completion
        return [r for r in results if r is not None]

    @torch.no_grad()
    def _cached(self, prefix: list[int]) -> Any:
        """The keys and values of the prefix; None where there is none, or for a network with a state of another kind,
        which padding behind the prefix would change."""
        if not prefix or self._network._is_stateful:
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

    def log_probs(self, texts: Sequence[tuple[str, str]]) -> list[Floats]:
        return [one.log_probs for one in self._scored(texts)]

    def token_scores(self, texts: Sequence[tuple[str, str]]) -> list[TokenScores]:
        return self._scored(texts)

    @torch.no_grad()
    def _scored(self, texts: Sequence[tuple[str, str]]) -> list[TokenScores]:
        pairs = [(self._encoded(a) or [self._tokenizer.eos_token_id], self._encoded(b)) for a, b in texts]
        rows = [(a + b, range(len(a) - 1, len(a) + len(b))) for a, b in pairs]
        with self._ready():
            found = self._logits(rows) if self._decoder is None else self._decoder.logits(rows)
            scores: dict[int, TokenScores] = {}
            for logits, own in found:
                scores |= self._scores(logits, {number: (some, pairs[number][1]) for number, some in own.items()})
        return [scores[number] for number in range(len(pairs))]

    def _logits(self, rows: Sequence[Text]) -> Iterator[tuple[torch.Tensor, dict[int, list[int]]]]:
        """As :meth:`Decoder.logits`, of a network that decodes by itself."""
        tokens = [row for row, _ in rows]
        # Right padding under a causal mask: what is real never sees it.
        batches = padded_batches(tokens, self._batch_size, self._tokenizer.pad_token_id, str(self._network.device))
        for places, ids, _ in batches:
            logits = self._network(input_ids=ids, use_cache=False).logits  # (B, L, V)
            for row, i in enumerate(places):
                wanted = rows[i][1]
                yield logits[row, wanted.start : wanted.stop].float(), {i: list(range(len(wanted)))}

    def _scores(self, logits: torch.Tensor, texts: dict[int, tuple[list[int], list[int]]]) -> dict[int, TokenScores]:
        """Of each text, by its number, from the logits (N, V) and its own: which of them stand in its n tokens' places
        and behind the last (n + 1), and the tokens (n)."""
        log_probs = logits.log_softmax(-1)
        peaks, ends = log_probs.amax(-1), log_probs[:, list(self._ends.all)].logsumexp(-1)
        closings = log_probs[:, self._closing_tokens].logsumexp(-1)
        places = [place for own, _ in texts.values() for place in own[:-1]]
        chosen = log_probs[places, [token for _, tokens in texts.values() for token in tokens]].cpu().numpy()
        peaks, ends, closings = (one.cpu().numpy() for one in (peaks, ends, closings))
        scores, start = {}, 0
        for number, (own, tokens) in texts.items():
            stop = start + len(tokens)
            scores[number] = TokenScores(chosen[start:stop], peaks[own[:-1]], ends[own], closings[own])
            start = stop
        return scores

    def _encoded(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids


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
