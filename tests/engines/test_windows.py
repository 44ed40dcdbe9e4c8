"""Networks that see a window only: decoded by us as long as all is within it, by themselves beyond, alike in both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import SIZES, TRIAL, network_of
from transformers import (
    AutoTokenizer,
    Gemma2Config,
    Gemma3TextConfig,
    GptOssConfig,
    LlamaConfig,
    MistralConfig,
    Qwen3Config,
)

from refine_af.config import SamplingConfig
from refine_af.ends import Ends
from refine_af.engines import transformers as ours
from refine_af.engines.base import Prompts
from refine_af.engines.decoder import Decoder, can_decode
from refine_af.engines.own_generate import OwnGenerate
from refine_af.engines.transformers import TransformersEngine

WINDOW = 24
SHORT = ["Describe a bird", "Describe a bird and a cat and a garden", "Describe a song"]
LONG = [" ".join(["Describe a bird and a cat", *["and a garden in winter"] * n]) for n in (3, 4, 6, 9)]
Made = Callable[..., TransformersEngine]


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_model)


@pytest.fixture(scope="module")
def network(tokenizer: Any) -> Any:
    return network_of(MistralConfig(**SIZES | {"vocab_size": len(tokenizer)}, sliding_window=WINDOW))


@pytest.fixture
def engine(network: Any, tokenizer: Any) -> TransformersEngine:
    return TransformersEngine(network, tokenizer, model="windowed", ends=Ends(2, (2,)), batch_size=8, adapter=False)


def ids_of(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    return [tokenizer.encode(text, add_special_tokens=False) for text in texts]


def by_generate(network: Any, row: list[int], most: int) -> list[int]:
    """What transformers' own generate writes greedily behind a row that has no company."""
    made = network.generate(torch.tensor([row]), max_new_tokens=most, do_sample=False, eos_token_id=2, pad_token_id=0)
    written: list[int] = made[0, len(row) :].tolist()
    return written


@pytest.mark.parametrize(
    "config",
    [
        MistralConfig(**SIZES, sliding_window=WINDOW),
        MistralConfig(**SIZES, sliding_window=4),
        Qwen3Config(**SIZES, use_sliding_window=True, sliding_window=WINDOW, max_window_layers=1),
        Gemma3TextConfig(**SIZES, sliding_window=WINDOW),
    ],
    ids=lambda config: f"{config.model_type}-{config.sliding_window}",
)
def test_within_its_window_a_network_writes_as_with_an_attention_of_its_own(config: Any) -> None:
    network = network_of(config)
    assert can_decode(network, TRIAL)
    decoder = Decoder(network, ends=(2,), most_rows=3)
    window = config.sliding_window
    rows, most = ([TRIAL[5:8], TRIAL[8:], [4]], 8) if window > 8 else ([[4], [5]], 2)
    beginning = TRIAL[:5] if window > 8 else TRIAL[:1]
    assert decoder.fits(window)
    assert not decoder.fits(window + 1)
    made = decoder.complete([(beginning, rows)], SamplingConfig(max_tokens=most, temperature=0), seed=0)
    assert [one.tokens for one in made] == [by_generate(network, beginning + row, most) for row in rows]


@pytest.mark.parametrize(
    "config",
    [
        Gemma2Config(**SIZES, sliding_window=WINDOW),  # its scores are capped, which a few tokens would hardly show
        GptOssConfig(**SIZES, sliding_window=WINDOW, num_local_experts=2, num_experts_per_tok=1),
        MistralConfig(**SIZES, sliding_window=2),
        LlamaConfig(**SIZES, layer_types=["sliding_attention", "full_attention"]),
        LlamaConfig(**SIZES, layer_types=["chunked_attention", "full_attention"]),
    ],
    ids=lambda config: f"{config.model_type}-{getattr(config, 'layer_types', None)}",
)
def test_what_attends_in_another_way_is_refused(config: Any) -> None:
    assert not can_decode(network_of(config), TRIAL)


def decoded_by_itself(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each batch has that the network's own generate is given, from now on."""
    seen: list[int] = []
    run = OwnGenerate._run

    def counted(self: Any, prefix: list[int], suffixes: list[list[int]], *rest: Any) -> Any:
        seen.append(len(suffixes))
        return run(self, prefix, suffixes, *rest)

    monkeypatch.setattr(OwnGenerate, "_run", counted)
    return seen


def test_rows_within_the_window_are_decoded_by_us_and_the_others_by_the_network(
    engine: TransformersEngine, network: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = decoded_by_itself(monkeypatch)
    (made,) = engine.answers([SHORT], 6)
    assert seen == []
    (both,) = engine.answers([SHORT + LONG], 6)
    assert sum(seen) == len(LONG)
    assert both[: len(SHORT)] == made
    for completion, row in zip(both, ids_of(tokenizer, SHORT + LONG), strict=True):
        assert list(completion.token_ids) == by_generate(network, row, 6)


def test_a_row_that_would_grow_beyond_the_window_is_not_ours(
    engine: TransformersEngine, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = decoded_by_itself(monkeypatch)
    (row,) = ids_of(tokenizer, SHORT[1:2])
    engine.answers([SHORT[1:2]], WINDOW - len(row))
    assert seen == []
    engine.answers([SHORT[1:2]], WINDOW - len(row) + 1)
    assert seen == [1]


@pytest.mark.parametrize("refused", [False, True])
def test_beyond_the_window_nothing_depends_on_what_stands_beside(
    refused: bool, engine: TransformersEngine, network: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that share a beginning and need padding: in a window it would take the places of tokens."""
    if refused:
        monkeypatch.setattr(ours, "can_decode", lambda network, sample: False)
    (together,) = engine.answers([LONG], 12)
    assert [engine.answers([[one]], 12)[0][0] for one in LONG] == together
    assert [list(c.token_ids) for c in together] == [by_generate(network, row, 12) for row in ids_of(tokenizer, LONG)]
    groups = [Prompts(LONG[0], tuple(one.removeprefix(LONG[0]) for one in LONG[1:])), Prompts("", tuple(SHORT))]
    greedy = SamplingConfig(max_tokens=12, temperature=0)
    made = engine.generate(groups, greedy, seed=0, log_probs=True)
    assert [[c.token_ids for c in group] for group in made] == [
        [c.token_ids for c in together[1:]],
        [c.token_ids for c in engine.answers([SHORT], 12)[0]],
    ]


def test_where_a_refused_network_stays_within_its_window_a_beginning_is_read_once(
    engine: TransformersEngine,
) -> None:
    assert engine._own_generate._cached([5, 6, 7], WINDOW) is not None
    assert engine._own_generate._cached([5, 6, 7], WINDOW + 1) is None


def test_scores_are_those_of_the_network_on_either_side_of_the_window(
    engine: TransformersEngine, network: Any, tokenizer: Any
) -> None:
    texts = [(text, " and a song in winter") for text in [*LONG, *SHORT]][::-1]
    found, alone = engine.token_scores(texts), [engine.token_scores([one])[0] for one in texts]
    for (before, after), one, other in zip(texts, found, alone, strict=True):
        context, tokens = ids_of(tokenizer, [before, after])
        with torch.no_grad():
            logits = network(torch.tensor([context + tokens])).logits[0, len(context) - 1 :]
        expected = logits.log_softmax(-1)
        chosen = [float(expected[place, token]) for place, token in enumerate(tokens)]
        assert one.log_probs == pytest.approx(chosen, abs=1e-4)
        assert one.ends == pytest.approx(expected[:, 2].numpy(), abs=1e-4)
        assert other.log_probs == pytest.approx(one.log_probs, abs=1e-4)
