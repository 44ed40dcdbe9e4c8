"""Completes many prompts with a network: rows come and go while it decodes, and what they share is computed once."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from refine_af.config import SamplingConfig
from refine_af.engines.attention import IMPLEMENTATION, Keeper, Layout, PromptsLayout, Segment
from refine_af.engines.reading import Piece, Text, packs
from refine_af.engines.rows import Beginning, Row, Shelf, Shelves
from refine_af.engines.sampling import Seen, next_tokens, penalised, state
from refine_af.engines.steps import Recorder, StepLayout, Steps
from refine_af.records import content_id

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_PROMPT_TOKENS_AT_ONCE = 2048
_LOGITS_AT_ONCE = 2**25  # 128 MiB
_FREE_SHARE = 8  # rows are let in when this part of the places is free: a pass over prompts for one alone is dear


@dataclass(frozen=True, slots=True)
class Written:
    """The tokens of a completion, with the end token where there was one; their log-probabilities if asked for; and
    whether it was stopped."""

    tokens: list[int]
    log_probs: list[float]
    stopped: bool


@dataclass(frozen=True, slots=True)
class _RowKeeper:
    shelf: Shelf
    slot: int
    before: Beginning | None  # of which the row keeps a copy

    def keep(self, layer: int, keys: Tensor, values: Tensor) -> None:
        start = 0
        if self.before and self.before.tokens:
            start = len(self.before.tokens)
            self.shelf.write(layer, self.slot, self.before.keys[layer], self.before.values[layer])
        self.shelf.write(layer, self.slot, keys, values, start)


class Decoder:
    """Decodes at most ``most_rows`` rows at once with a network of which :func:`can_decode` is true. ``ends``:
    the tokens of which each ends a row. ``recorder``: what makes, for each call, that which records its steps, on a
    device that can."""

    def __init__(
        self,
        network: PreTrainedModel,
        *,
        ends: Sequence[int],
        most_rows: int,
        recorder: Callable[[], Recorder] | None = None,
    ) -> None:
        self._network = network
        self._window = window_of(network)
        self._ends = ends
        self._most_rows = most_rows
        self._recorder = recorder

    def fits(self, tokens: int) -> bool:
        """Whether a text of so many tokens, with all that is yet to be written, is within what each token sees."""
        return self._window is None or tokens <= self._window

    @torch.no_grad()
    def complete(
        self,
        groups: Sequence[tuple[list[int], Sequence[list[int]]]],
        sampling: SamplingConfig,
        *,
        seed: int,
        is_stopped: Callable[[Sequence[int]], bool] | None = None,
        log_probs: bool = False,
    ) -> list[Written]:
        """Of groups of (beginning, what follows it in each row), one a row, in order. Each row has to fit, with
        ``max_tokens`` more. ``is_stopped`` is asked of the tokens written so far, after each one. What a row draws
        depends on the seed and its text alone: rows beside it change at most how its logits are rounded."""
        shelves = Shelves()
        begin_differently = sum(bool(rows) for _, rows in groups) > 1
        waiting = _rows(groups, seed, alone=self._recorder is not None and begin_differently)
        steps = self._steps(shelves, self._recorder and self._recorder())
        seen = None if sampling.repetition_penalty == 1 else self._nothing_seen()
        writing = _Writing(shelves, sampling, self._ends, is_stopped, log_probs, seen)
        with _our_attention(self._network):
            while waiting or len(shelves):
                while waiting and (free := self._most_rows - len(shelves)) * _FREE_SHARE >= self._most_rows:
                    rows, logits = self._read(waiting, shelves, free, sampling.max_tokens)
                    writing.enter(rows)
                    writing.go_on(rows, logits)
                if len(shelves):
                    writing.go_on(*steps.next())
        return [writing.done[place] for place in range(len(writing.done))]

    @torch.no_grad()
    def logits(self, texts: Sequence[Text]) -> Iterator[tuple[Tensor, dict[int, list[int]]]]:
        """Of texts (tokens, places), each of which has to fit, the logits (N, V) in these places, in float32, and of
        each text, by its number, which of them are its own. What several texts begin with is read once."""
        most = max(1, _LOGITS_AT_ONCE // self._network.config.get_text_config().vocab_size)
        for pack in packs(texts, _PROMPT_TOKENS_AT_ONCE, most):
            with _our_attention(self._network):
                yield self._prompt_logits(_segments(pack.pieces), pack.wanted).float(), pack.texts

    @torch.no_grad()
    def replayed(self, tokens: list[int]) -> Tensor:
        """(V,): the logits behind tokens that are read in all the ways there are: as a beginning, as what is a row's
        own, and as what it wrote."""
        third = len(tokens) // 3
        row = Row(0, Beginning(tokens[:third]), tokens[third : 2 * third])
        shelves = Shelves()
        steps = self._steps(shelves, None)
        with _our_attention(self._network):
            _, logits = self._read(deque([row]), shelves, 1, len(tokens))
            for token in tokens[2 * third :]:
                row.written.append(token)
                _, logits = steps.next()
        return logits[0]

    def _read(self, waiting: deque[Row], shelves: Shelves, free: int, max_tokens: int) -> tuple[list[Row], Tensor]:
        """Lets in as many of the waiting rows as there is room for, and reads them: the rows, and their logits."""
        segments: list[Segment] = []
        rows: list[Row] = []

        def append(tokens: list[int], behind: Beginning | None, keeper: Keeper) -> None:
            segments.append(Segment(_stop(segments), tokens, behind, keeper))

        while waiting and len(rows) < free and _stop(segments) < _PROMPT_TOKENS_AT_ONCE:
            row = waiting.popleft()
            if row.beginning.tokens and not row.beginning.is_read:
                row.beginning.is_read = True
                append(row.beginning.tokens, None, row.beginning)
            copied = row.beginning if row.stands_alone else None
            append(row.own, row.beginning, _RowKeeper(*shelves.put(row, max_tokens), copied))
            rows.append(row)
        last = [one.stop - 1 for one in segments if one.behind is not None]
        return rows, self._prompt_logits(segments, last)

    def _steps(self, shelves: Shelves, record: Recorder | None) -> Steps:
        def compute(layout: StepLayout) -> Tensor:
            return self._forward(layout.tokens, layout.positions, layout, 0)

        return Steps(shelves, compute, self._network.device, self._network.dtype, record)

    def _prompt_logits(self, segments: list[Segment], wanted: list[int]) -> Tensor:
        device = self._network.device
        tokens = torch.tensor([[token for one in segments for token in one.tokens]], device=device)
        positions = torch.tensor([[place for one in segments for place in one.positions()]], device=device)
        layout = PromptsLayout(segments, device)
        return self._forward(tokens, positions, layout, torch.tensor(wanted, device=device))

    def _forward(self, tokens: Tensor, positions: Tensor, layout: Layout, wanted: Tensor | int) -> Tensor:
        """(n, V): the logits in the ``wanted`` places, all for 0."""
        found: Tensor = self._network(
            input_ids=tokens, position_ids=positions, logits_to_keep=wanted, use_cache=False, layout=layout
        ).logits[0]
        return found

    def _nothing_seen(self) -> Seen:
        return Seen(self._most_rows, self._network.config.get_text_config().vocab_size, self._network.device)


class _Writing:
    """What a call writes: the next token of each row, and what became of the rows that are done, by their places."""

    def __init__(
        self,
        shelves: Shelves,
        sampling: SamplingConfig,
        ends: Sequence[int],
        is_stopped: Callable[[Sequence[int]], bool] | None,
        log_probs: bool,
        seen: Seen | None,
    ) -> None:
        self.done: dict[int, Written] = {}
        self._shelves = shelves
        self._sampling = sampling
        self._ends = ends
        self._is_stopped = is_stopped
        self._log_probs = log_probs
        self._seen = seen

    def enter(self, rows: Sequence[Row]) -> None:
        if self._seen is not None:
            for row in rows:
                self._seen.put(row.place, row.tokens)

    def go_on(self, rows: Sequence[Row], logits: Tensor) -> None:
        """Each row gets its next token; those that are done leave."""
        logits = logits.float()
        tokens = self._next_tokens(rows, logits)
        if self._log_probs:
            found = logits.gather(-1, tokens[:, None]).squeeze(-1) - logits.logsumexp(-1)
            for row, value in zip(rows, found.tolist(), strict=True):
                row.log_probs.append(value)
        for row, token in zip(rows, tokens.tolist(), strict=True):
            row.written.append(token)
            ended = token in self._ends
            stopped = not ended and self._is_stopped is not None and self._is_stopped(row.written)
            if stopped or ended or len(row.written) == self._sampling.max_tokens:
                self._leave(row, stopped)

    def _next_tokens(self, rows: Sequence[Row], logits: Tensor) -> Tensor:
        places = [row.place for row in rows]
        if self._seen is not None:
            logits = penalised(logits, self._seen.of(places), self._sampling.repetition_penalty)
        states = torch.tensor([state(row.stream, len(row.written)) for row in rows], device=logits.device)
        tokens = next_tokens(logits, self._sampling, states)
        if self._seen is not None:
            self._seen.add(places, tokens)
        return tokens

    def _leave(self, row: Row, stopped: bool) -> None:
        self.done[row.place] = Written(row.written, row.log_probs, stopped)
        self._shelves.remove(row)
        if self._seen is not None:
            self._seen.remove(row.place)


_KINDS = {"full_attention", "sliding_attention"}
_SHORTEST_SAMPLE = 3  # a token for each way to read one
_ANSWERS: WeakKeyDictionary[PreTrainedModel, bool] = WeakKeyDictionary()  # an adapter on a network changes none


def can_decode(network: PreTrainedModel, sample: list[int]) -> bool:
    """Whether the network, asked once on a few tokens, computes with our attention what it computes with its own.
    Networks of which :func:`sees_by_masks` isn't true aren't asked; one with a window is, on no more tokens than it
    holds."""
    if network not in _ANSWERS:
        _ANSWERS[network] = _computes_the_same(network, sample)
    return _ANSWERS[network]


def window_of(network: PreTrainedModel) -> int | None:
    """How many tokens each one sees in some layers, itself among them; None where all see all that stands before."""
    found: int | None = getattr(network.config.get_text_config(), "sliding_window", None)
    return found or None


def sees_by_masks(network: PreTrainedModel) -> bool:
    """Whether transformers' masks, of all that stands before or of a window, are all that says what a token sees."""
    kinds = set(getattr(network.config.get_text_config(), "layer_types", None) or ["full_attention"])
    if network._is_stateful or not network._supports_attention_backend:
        return False
    return not kinds - _KINDS and ("sliding_attention" not in kinds or window_of(network) is not None)


def _computes_the_same(network: PreTrainedModel, sample: list[int]) -> bool:
    if not sees_by_masks(network):
        return False
    sample = sample[: window_of(network)]
    if len(sample) < _SHORTEST_SAMPLE:
        return False
    try:
        ours = Decoder(network, ends=(), most_rows=1).replayed(sample)
    except (TypeError, AttributeError, RuntimeError):
        return False  # its layers don't hand on what they are called with, have no numbers, or heads of two sizes
    with torch.no_grad():
        theirs = network(input_ids=torch.tensor([sample], device=network.device), use_cache=False).logits[0, -1]
    allowed = 1e-3 if theirs.dtype == torch.float32 else 0.1
    return bool((ours - theirs).float().norm() <= allowed * theirs.float().norm())


def _rows(groups: Sequence[tuple[list[int], Sequence[list[int]]]], seed: int, *, alone: bool) -> deque[Row]:
    """A row's stream comes from the seed and its text, and, of rows with the same text, from which of them it is."""
    rows: deque[Row] = deque()
    met: Counter[str] = Counter()
    for tokens, some in groups:
        beginning = Beginning(tokens)
        for own in some:
            text = content_id(str(seed), str(tokens + own))
            rows.append(Row(len(rows), beginning, own, int(content_id(text, str(met[text])), 16), alone))
            met[text] += 1
    return rows


def _segments(pieces: Sequence[Piece]) -> list[Segment]:
    """Of pieces of which each comes after what it goes on from."""
    shared = {piece.behind for piece in pieces}
    beginnings: dict[Piece, Beginning] = {}
    segments: list[Segment] = []
    for piece in pieces:
        behind = beginnings[piece.behind] if piece.behind else None
        if piece in shared:
            beginnings[piece] = Beginning(piece.tokens, behind)
        segments.append(Segment(_stop(segments), piece.tokens, behind, beginnings.get(piece)))
    return segments


def _stop(segments: Sequence[Segment]) -> int:
    return segments[-1].stop if segments else 0


@contextmanager
def _our_attention(network: PreTrainedModel) -> Iterator[None]:
    before = network.config._attn_implementation
    network.set_attn_implementation(IMPLEMENTATION)
    try:
        yield
    finally:
        network.set_attn_implementation(before)
