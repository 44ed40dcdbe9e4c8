"""Generation with transformers: any causal model, on a CPU or a GPU, with the policy's adapter in place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from refine_af.batching import padded_batches
from refine_af.config import SamplingConfig
from refine_af.ends import Ends
from refine_af.engines.base import NO_STOP, Completion, Floats, Prompts, Stop, TokenScores, common_beginning
from refine_af.engines.decoder import Decoder, Written, can_decode
from refine_af.engines.ending import Ending
from refine_af.engines.fused import SAMPLE, MakeProduct, fused_copy
from refine_af.engines.own_generate import OwnGenerate
from refine_af.engines.padding import takes_padding
from refine_af.engines.reading import Text
from refine_af.engines.steps import cuda_recorder
from refine_af.lora import untouched
from refine_af.models import positions_of
from refine_af.records import derived_seed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_ROUNDING = 0.3  # of the logits' norm; what is rounded to int8 is a hundredth off, and what is wrong is about one


class TransformersEngine:
    """Works on a model in memory, without a copy of it: what the model's adapter is now, the engine uses.

    With ``product`` it works on a copy whose linear layers are products of that kind, with what the adapter is when the
    engine is first asked; on the network itself where a copy computes something else. Networks that :func:`can_decode`
    refuses are decoded by their own ``generate``, and so are rows that may grow beyond a network's window.
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
        copy = fused_copy(self._given, torch.tensor([self._sample]), self._product)
        return copy if _computes_alike(copy, self._given, self._sample[:8]) else self._given

    @cached_property
    def _decoder(self) -> Decoder | None:
        """None for a network that has to decode by itself. Asked of what is given, which computes exactly."""
        if not can_decode(self._given, self._sample[:12]):
            return None
        recorder = cuda_recorder if self._given.device.type == "cuda" else None
        return Decoder(self._network, ends=self._ends.all, most_rows=self._batch_size, recorder=recorder)

    @cached_property
    def _own_generate(self) -> OwnGenerate:
        pads = takes_padding(self._given, self._sample[:24], self._tokenizer.pad_token_id)
        return OwnGenerate(self._network, self._tokenizer, ends=self._ends, batch_size=self._batch_size, pads=pads)

    @property
    def _sample(self) -> list[int]:
        """Of a network with few positions, as much as it reads."""
        return self._encoded(SAMPLE)[: positions_of(self._given.config)]

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
        with untouched(self._given, adapter=self._adapter):
            decoder = self._decoder
            fits = [
                [decoder is not None and decoder.fits(len(prefix) + len(one) + sampling.max_tokens) for one in suffixes]
                for prefix, suffixes in groups
            ]
            short, long = (_where(groups, fits, wanted) for wanted in (True, False))
            made: list[Completion] = []
            if decoder is not None:
                is_stopped = Ending(self._tokenizer, stop).is_reached if stop else None
                written = decoder.complete(short, sampling, seed=seed, is_stopped=is_stopped, log_probs=log_probs)
                made = [self._completion_of(one, stop, log_probs) for one in written]
            by_itself = [
                one
                for number, group in enumerate(long)
                for one in self._own_generate.complete(*group, sampling, derived_seed(seed, number), stop, log_probs)
            ]
        decoded, others = iter(made), iter(by_itself)
        return [next(decoded) if fit else next(others) for some in fits for fit in some]

    def _completion_of(self, written: Written, stop: Stop, log_probs: bool) -> Completion:
        ended = written.tokens[-1] in self._ends.all
        text = self._tokenizer.decode(written.tokens[:-1] if ended else written.tokens, skip_special_tokens=False)
        found = tuple(written.log_probs) if log_probs else None
        return Completion(stop.cut(text)[0], tuple(written.tokens), ended or written.stopped, found)

    def log_probs(self, texts: Sequence[tuple[str, str]]) -> list[Floats]:
        return [one.log_probs for one in self._scored(texts)]

    def token_scores(self, texts: Sequence[tuple[str, str]]) -> list[TokenScores]:
        return self._scored(texts)

    @torch.no_grad()
    def _scored(self, texts: Sequence[tuple[str, str]]) -> list[TokenScores]:
        pairs = [(self._encoded(a) or [self._tokenizer.eos_token_id], self._encoded(b)) for a, b in texts]
        rows = [(a + b, range(len(a) - 1, len(a) + len(b))) for a, b in pairs]
        with untouched(self._given, adapter=self._adapter):
            decoder = self._decoder
            short = [i for i, (tokens, _) in enumerate(rows) if decoder is not None and decoder.fits(len(tokens))]
            long = sorted(set(range(len(rows))).difference(short))
            scores: dict[int, TokenScores] = {}
            for some, read in ((short, decoder.logits if decoder else self._logits), (long, self._logits)):
                for logits, own in read([rows[i] for i in some]):
                    texts_of = {some[number]: (places, pairs[some[number]][1]) for number, places in own.items()}
                    scores |= self._scores(logits, texts_of)
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
        ends = log_probs[:, list(self._ends.all)].logsumexp(-1).cpu().numpy()
        places = [place for own, _ in texts.values() for place in own[:-1]]
        chosen = log_probs[places, [token for _, tokens in texts.values() for token in tokens]].cpu().numpy()
        scores, start = {}, 0
        for number, (own, tokens) in texts.items():
            stop = start + len(tokens)
            scores[number] = TokenScores(chosen[start:stop], ends[own])
            start = stop
        return scores

    def _encoded(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids


@torch.no_grad()
def _computes_alike(copy: Any, network: Any, sample: list[int]) -> bool:
    """Whether a copy gives the network's logits, up to rounding. Some networks look into their layers, or call them in
    another order for few tokens than for many."""
    ids = torch.tensor([sample], device=network.device)
    try:
        ours = copy(input_ids=ids, use_cache=False).logits.float()
    except (AttributeError, TypeError, ValueError, RuntimeError):
        return False
    theirs = network(input_ids=ids, use_cache=False).logits.float()
    return bool((ours - theirs).norm() <= _ROUNDING * theirs.norm())


def _where(
    groups: Sequence[tuple[list[int], list[list[int]]]], fits: Sequence[Sequence[bool]], wanted: bool
) -> list[tuple[list[int], list[list[int]]]]:
    """The groups with those rows alone of which it is so."""
    return [
        (prefix, [suffix for suffix, fit in zip(suffixes, some, strict=True) if fit is wanted])
        for (prefix, suffixes), some in zip(groups, fits, strict=True)
    ]
