"""Decoding many rows at once: each is written as if it were alone, whatever stands beside it and whatever is shared."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from itertools import accumulate
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from networks import SIZES, TRIAL, VOCABULARY, alone, network_of
from transformers import (
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    Phi3Config,
    Qwen3Config,
)

from refine_af.config import SamplingConfig
from refine_af.engines import attention
from refine_af.engines.decoder import Decoder, can_decode
from refine_af.engines.reading import Pack, packs
from refine_af.engines.rows import Beginning, Row, Shelves
from refine_af.engines.steps import Recorder, StepShape

Tokens = st.lists(st.integers(3, VOCABULARY - 1), min_size=1, max_size=9)
Groups = st.lists(st.tuples(st.one_of(st.just([]), Tokens), st.lists(Tokens, max_size=5)), max_size=4)


@pytest.fixture(scope="module")
def network() -> Any:
    return network_of(LlamaConfig(**SIZES))


@settings(deadline=None, max_examples=40)
@given(groups=Groups, most_rows=st.integers(1, 12), most=st.integers(1, 12))
def test_every_row_is_written_as_if_it_were_alone(
    network: Any, groups: list[tuple[list[int], list[list[int]]]], most_rows: int, most: int
) -> None:
    decoder = Decoder(network, ends=(2,), most_rows=most_rows)
    made = decoder.complete(groups, SamplingConfig(max_tokens=most, temperature=0), seed=0)
    expected = [alone(network, beginning + own, most) for beginning, rows in groups for own in rows]
    assert [one.tokens for one in made] == expected


@settings(deadline=None, max_examples=30)
@given(groups=Groups, most_rows=st.integers(1, 12), seed=st.integers(0, 99), left=st.integers(0, 3))
def test_what_a_row_draws_depends_on_no_row_beside_it(
    network: Any, groups: list[tuple[list[int], list[list[int]]]], most_rows: int, seed: int, left: int
) -> None:
    sampling = SamplingConfig(max_tokens=8, temperature=1.0, top_p=0.9)
    whole = iter(Decoder(network, ends=(2,), most_rows=5).complete(groups, sampling, seed=seed))
    expected = {str(beginning + own): next(whole) for beginning, rows in groups for own in rows}
    texts = [beginning + own for beginning, rows in groups for own in rows]
    assume(len(expected) == len(texts))
    some = [([], [text]) for i, text in enumerate(texts) if i % 4 != left][::-1]
    made = Decoder(network, ends=(2,), most_rows=most_rows).complete(some, sampling, seed=seed)
    assert made == [expected[str(own)] for _, (own,) in some]


def test_equal_rows_draw_differently(network: Any) -> None:
    sampling = SamplingConfig(max_tokens=8, temperature=1.0)
    made = Decoder(network, ends=(2,), most_rows=4).complete([([3], [[4]] * 6), ([3, 4], [[5]])], sampling, seed=0)
    assert len({tuple(one.tokens) for one in made[:6]}) > 3


def test_rows_leave_and_others_take_their_places(network: Any) -> None:
    """Rows of very different lengths, so that they stand apart, and an end for each after another count of tokens."""
    rows = [[3 + (7 * i + j) % 50 for j in range(1 + 37 * (i % 5))] for i in range(17)]
    whole = [alone(network, [9, 8, 7, *row], 12) for row in rows]
    stops = {tuple(one[: 1 + i % 6]) for i, one in enumerate(whole)}
    expected = [next(one[:n] for n in range(1, 13) if tuple(one[:n]) in stops) for one in whole]
    decoder = Decoder(network, ends=(2,), most_rows=4)
    sampling = SamplingConfig(max_tokens=12, temperature=0)
    made = decoder.complete([([9, 8, 7], rows)], sampling, seed=0, is_stopped=lambda written: tuple(written) in stops)
    assert [one.tokens for one in made] == expected
    assert {len(one.tokens) for one in made} >= {1, 2, 3}, "rows end at different steps, or this proves little"
    assert sum(one.stopped for one in made) > len(rows) // 2


Beginnings = st.lists(st.sampled_from([5, 9]), max_size=7)  # so that many begin alike
Texts = st.lists(st.tuples(st.tuples(Beginnings, Tokens).map(lambda two: two[0] + two[1]), Tokens), max_size=8)


def places(texts: list[tuple[list[int], list[int]]]) -> list[tuple[list[int], range]]:
    return [(a + b, range(len(a) - 1, len(a) + len(b))) for a, b in texts]


@settings(deadline=None, max_examples=40)
@given(texts=Texts)
def test_logits_are_those_of_each_text_alone(network: Any, texts: list[tuple[list[int], list[int]]]) -> None:
    asked = places(texts)
    passes = Decoder(network, ends=(2,), most_rows=4).logits(asked)
    found = {number: logits[own] for logits, texts in passes for number, own in texts.items()}
    assert sorted(found) == list(range(len(texts)))
    for number, (tokens, wanted) in enumerate(asked):
        with torch.no_grad():
            expected = network(input_ids=torch.tensor([tokens])).logits[0, wanted.start : wanted.stop]
        torch.testing.assert_close(found[number], expected, atol=1e-4, rtol=1e-4)


def behind(pack: Pack, place: int) -> list[int]:
    """What a place among a pack's tokens sees, itself the last."""
    stops = list(accumulate(len(piece.tokens) for piece in pack.pieces))
    number = bisect_right(stops, place)
    piece = pack.pieces[number]
    seen = piece.tokens[: len(piece.tokens) - stops[number] + place + 1]
    while piece.behind is not None:
        piece = piece.behind
        seen = piece.tokens + seen
    return seen


@given(texts=Texts, most_tokens=st.integers(1, 40), most_places=st.integers(1, 12))
def test_packs_hold_each_text_once_and_no_more_than_they_may(
    texts: list[tuple[list[int], list[int]]], most_tokens: int, most_places: int
) -> None:
    asked = places(texts)
    found = list(packs(asked, most_tokens, most_places))
    assert sorted(number for pack in found for number in pack.texts) == list(range(len(texts)))
    for pack in found:
        for number, own in pack.texts.items():
            tokens, wanted = asked[number]
            assert [behind(pack, pack.wanted[i]) for i in own] == [tokens[: place + 1] for place in wanted]
        read = sum(len(piece.tokens) for piece in pack.pieces)
        assert len(pack.texts) == 1 or (read <= most_tokens and len(pack.wanted) <= most_places)


def test_what_texts_begin_with_is_read_once_however_they_branch() -> None:
    frame = list(range(3, 23))
    tasks = [frame + [30 + number] * 40 for number in range(3)]
    answers = [[7] * 20 + [8], [7] * 20 + [9], [7] * 20, [9, 9]]
    asked = places([(task, answer) for task in tasks for answer in answers])
    (pack,) = packs(asked, 1000, 1000)
    assert sum(len(piece.tokens) for piece in pack.pieces) == 20 + 3 * (40 + 20 + 1 + 1 + 2)
    assert len(pack.wanted) == 3 * (1 + 20 + 1 + 1 + 2), "what is wanted of several is computed once"
    assert pack.texts[2] == pack.texts[0][:-1]


def test_texts_that_share_little_are_read_each_for_itself() -> None:
    asked = places([([3, 4, 5, number], [6] * 9) for number in range(10, 13)])
    (pack,) = packs(asked, 1000, 1000)
    assert [(piece.tokens, piece.behind) for piece in pack.pieces] == [(tokens, None) for tokens, _ in asked]
    # 12 tokens are spared twice, of which two texts have 5 more in common: too little at either place.
    asked = places([([3] * 12, [6] * 5 + [number]) for number in (7, 8)] + [([3] * 12, [9])])
    (pack,) = packs(asked, 1000, 1000)
    assert [piece.behind for piece in pack.pieces] == [None] * 3


@pytest.mark.parametrize(
    "config",
    [
        LlamaConfig(**SIZES),
        LlamaConfig(**SIZES | {"num_key_value_heads": 4, "attention_bias": True}),
        LlamaConfig(**SIZES | {"num_key_value_heads": 1, "tie_word_embeddings": True}),
        Qwen3Config(**SIZES),
        Phi3Config(**SIZES),
        MistralConfig(**SIZES, sliding_window=None),
        GPTNeoXConfig(**{k: v for k, v in SIZES.items() if k not in ("num_key_value_heads", "head_dim")}),
        OPTConfig(vocab_size=VOCABULARY, hidden_size=16, ffn_dim=24, num_hidden_layers=2, num_attention_heads=4),
        GPT2Config(vocab_size=VOCABULARY, n_embd=16, n_layer=2, n_head=4),
    ],
    ids=lambda config: f"{config.model_type}-{getattr(config, 'num_key_value_heads', '')}",
)
def test_what_is_approved_writes_what_the_network_writes(config: Any) -> None:
    network = network_of(config)
    approved = can_decode(network, TRIAL)
    assert approved or config.model_type in ("opt", "gpt2"), "families that we know to hand the layout on"
    if approved:
        made = Decoder(network, ends=(2,), most_rows=3).complete(
            [(TRIAL[:5], [TRIAL[5:8], TRIAL[8:], [4]])], SamplingConfig(max_tokens=8, temperature=0), seed=0
        )
        assert [one.tokens for one in made] == [
            alone(network, TRIAL[:5] + own, 8) for own in (TRIAL[5:8], TRIAL[8:], [4])
        ]


def test_its_attention_is_on_the_network_only_while_it_works(network: Any) -> None:
    before = network.config._attn_implementation
    Decoder(network, ends=(2,), most_rows=2).complete([([3], [[4]])], SamplingConfig(max_tokens=1), seed=0)
    assert network.config._attn_implementation == before
    with pytest.raises(ZeroDivisionError):
        Decoder(network, ends=(2,), most_rows=2).complete(
            [([3], [[4]])], SamplingConfig(max_tokens=3), seed=0, is_stopped=lambda written: bool(1 // 0)
        )
    assert network.config._attn_implementation == before


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 99),
    causal=st.booleans(),
    sizes=st.tuples(st.integers(1, 5), st.integers(1, 9)),
    wide=st.booleans(),
)
def test_attention_in_steps_is_that_of_the_fused_kernel(
    seed: int, causal: bool, sizes: tuple[int, int], wide: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows, columns = (sizes[1], sizes[1]) if causal else sizes
    queries, keys, values = (torch.randn(2, 3, count, 8, generator=generator) for count in (rows, columns, columns))
    mask = None
    if wide and not causal:
        mask = torch.zeros(2, 1, 1, columns).masked_fill_(torch.arange(columns) > columns // 2, float("-inf"))
    ours = attention._attended_in_steps(queries, keys, values, mask, 0.3, causal=causal)
    fused = attention.attended(queries, keys, values, mask, 0.3, causal=causal)
    for one, other in zip(ours, fused, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@settings(deadline=None, max_examples=25)
@given(groups=Groups)
def test_rows_are_the_same_where_no_fused_kernel_is(
    network: Any, groups: list[tuple[list[int], list[list[int]]]]
) -> None:
    decoder, greedy = Decoder(network, ends=(2,), most_rows=5), SamplingConfig(max_tokens=6, temperature=0)
    fused = decoder.complete(groups, greedy, seed=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "has_fused_kernel", lambda device: False)
        assert decoder.complete(groups, greedy, seed=0) == fused


class Recorders:
    """In place of a GPU's: repeats a step by computing it again, with the tensors that it was recorded with."""

    def __init__(self) -> None:
        self.recorded = self.repeated = 0

    def __call__(self) -> Recorder:
        def record(compute: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
            self.recorded += 1

            def repeat() -> torch.Tensor:
                self.repeated += 1
                return compute()

            return repeat

        return record


@settings(deadline=None, max_examples=40)
@given(groups=Groups, most_rows=st.integers(1, 12), penalty=st.sampled_from([1.0, 1.3]))
def test_recorded_steps_write_the_same(
    network: Any, groups: list[tuple[list[int], list[list[int]]]], most_rows: int, penalty: float
) -> None:
    greedy = SamplingConfig(max_tokens=12, temperature=0, repetition_penalty=penalty)
    made = Decoder(network, ends=(2,), most_rows=most_rows, recorder=Recorders()).complete(groups, greedy, seed=0)
    expected = Decoder(network, ends=(2,), most_rows=most_rows).complete(groups, greedy, seed=0)
    assert [one.tokens for one in made] == [one.tokens for one in expected]


@pytest.mark.parametrize("shared", [True, False])
def test_few_recordings_serve_many_steps(network: Any, shared: bool) -> None:
    """Of rows that need different room, leave one by one and make place for others."""
    rows = [[3 + (7 * i + j) % 50 for j in range(1 + 37 * (i % 5))] for i in range(40)]
    groups = [([9, 8, 7], rows)] if shared else [([9, 8, i], [row]) for i, row in enumerate(rows)]
    sampling, recorders = SamplingConfig(max_tokens=60, temperature=0), Recorders()
    made, expected = (
        Decoder(network, ends=(2,), most_rows=16, recorder=recorder).complete(
            groups, sampling, seed=0, is_stopped=lambda written: sum(written) % 23 == 0
        )
        for recorder in (recorders, None)
    )
    assert made == expected
    assert len({len(one.tokens) for one in made}) > 10, "rows end at different steps, or this proves little"
    assert 0 < recorders.recorded * 5 < recorders.repeated


def test_a_recorded_step_serves_for_fewer_rows_and_shorter_ones_on_the_same_shelf() -> None:
    shelves = Shelves()
    rows = [Row(i, Beginning([]), [5] * 30) for i in range(4)]
    for row in rows:
        shelf, _ = shelves.put(row, 60)
    four = StepShape.of(shelves).rounded()
    shelves.remove(rows[0])
    three = StepShape.of(shelves)
    assert (four.rows, four.parts[0].width, three.rows, three.parts[0].width) == (4, 128, 3, 30)
    assert four.covers(three)
    assert not three.covers(four)
    more = [Row(i, Beginning([]), [5] * 30) for i in range(4, 6)]
    for row in more:
        shelves.put(row, 60)
    assert shelf.capacity == 8, "five rows don't stand where four could"
    shelves.remove(more[0])
    shelves.remove(more[1])
    assert not four.covers(StepShape.of(shelves)), "its keys and values lie elsewhere now"
