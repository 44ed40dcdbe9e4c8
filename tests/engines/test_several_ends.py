"""A model with several end tokens: each ends a row, in every engine, and scores count them together."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from engine_cases import ENGINES, FREE, GREEDY, PREFIX, PROMPTS, SCORED, Made, copies, written
from networks import SIZES, TRIAL, network_of
from serving import Server
from transformers import AutoModelForCausalLM, LlamaConfig
from vllm_serving import TinyVllm

from refine_af.config import SamplingConfig, load_config
from refine_af.engines import transformers as ours
from refine_af.engines.base import Engine
from refine_af.engines.decoder import Decoder
from refine_af.parts import Parts

LONG = FREE.model_copy(update={"max_tokens": 60})


def renamed(source: Path, folder: Path, *ends: int) -> Path:
    """The model with a tokenizer that names ``<s>``, which is hardly ever written, and with ``ends`` in its files."""
    shutil.copytree(source, folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"eos_token": "<s>", "pad_token": "<s>"}))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": list(ends)}))
    return folder


@pytest.fixture(scope="module")
def elsewhere(tiny_base_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of the base model; ``</s>`` is named in its files alone."""
    return renamed(tiny_base_model, tmp_path_factory.mktemp("renamed") / "tiny-base", 1, 2)


@pytest.mark.parametrize("most", [1, 2, 5])
def test_the_decoder_stops_at_each_of_several_ends(most: int) -> None:
    network, sampling = network_of(LlamaConfig(**SIZES)), SamplingConfig(max_tokens=12, temperature=1.0)
    rows = [TRIAL[: 1 + i % 7] for i in range(40)]
    free = [one.tokens for one in Decoder(network, ends=(), most_rows=8).complete([([3], rows)], sampling, seed=0)]
    ends = sorted({token for row in free for token in row})[::12][:most]
    made = Decoder(network, ends=ends, most_rows=8).complete([([3], rows)], sampling, seed=0)
    for one, whole in zip(made, free, strict=True):
        first = next((n for n, token in enumerate(whole, start=1) if token in ends), len(whole))
        assert one.tokens == whole[:first]
    assert {one.tokens[-1] for one in made if len(one.tokens) < 12} == set(ends), "each of them ended a row"


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("sampling", [GREEDY, LONG])
def test_an_end_counts_wherever_it_is_named(
    name: str, sampling: SamplingConfig, made: Made, tiny_base_model: Path, elsewhere: Path
) -> None:
    engine, other = (made(name, model=model).initial_engine for model in (tiny_base_model, elsewhere))
    expected = written(engine, copies(24), sampling, seed=0)
    assert sum(c.ended for c in expected) > 12 or sampling is GREEDY
    assert written(other, copies(24), sampling, seed=0) == expected
    assert other.answers([[PREFIX + s for s in PROMPTS.suffixes]], 24) == [written(engine, PROMPTS, GREEDY, seed=0)]


def test_a_network_that_decodes_by_itself_ends_there_too(
    made: Made, tiny_base_model: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ours, "can_decode", lambda network, sample: False)
    engine, other = (made("transformers", model=model).initial_engine for model in (tiny_base_model, elsewhere))
    expected = written(engine, copies(24), LONG, seed=0, log_probs=True)
    assert sum(c.ended for c in expected) > 12
    assert written(other, copies(24), LONG, seed=0, log_probs=True) == expected


@pytest.fixture
def there(serve: Callable[..., Server], elsewhere: Path, tmp_path: Path) -> tuple[Engine, Server]:
    server = serve(TinyVllm(elsewhere))
    settings = ["model.engine=vllm", f"model.server.url={server.url}", f"model.name={elsewhere}", "threads=1"]
    return Parts(load_config(overrides=[*settings, "model.quantization=float32"]), tmp_path).initial_engine, server


def test_a_server_is_told_all_ends(there: tuple[Engine, Server], made: Made, tiny_base_model: Path) -> None:
    engine, server = there
    expected = written(made("transformers", model=tiny_base_model).initial_engine, PROMPTS, GREEDY, seed=0)
    found = written(engine, PROMPTS, GREEDY, seed=0)
    assert [(c.text, c.token_ids, c.ended) for c in found] == [(c.text, c.token_ids, c.ended) for c in expected]
    assert server.requests[-1]["stop_token_ids"] == [1, 2]
    drawn = written(engine, copies(12), LONG, seed=0)
    assert sum(c.ended for c in drawn) > 6
    assert all(c.ended == (c.token_ids[-1] == 2) and "</s>" not in c.text for c in drawn)


@pytest.mark.parametrize("name", ENGINES)
def test_scores_count_all_ends_together(name: str, made: Made, tiny_base_model: Path, tmp_path: Path) -> None:
    parts = made(name, model=renamed(tiny_base_model, tmp_path / "several", 2, 4))
    assert parts.ends.all == (1, 2, 4)
    network, tokenizer = AutoModelForCausalLM.from_pretrained(tiny_base_model).eval(), parts.tokenizer
    for (context, continuation), found in zip(SCORED, parts.initial_engine.token_scores(SCORED), strict=True):
        before = tokenizer.encode(context, add_special_tokens=False) or [1]
        tokens = tokenizer.encode(continuation, add_special_tokens=False)
        with torch.no_grad():
            logits: Any = network(torch.tensor([before + tokens])).logits[0, len(before) - 1 :].double()
        expected = logits.log_softmax(-1)
        assert found.ends == pytest.approx(expected[:, [1, 2, 4]].logsumexp(-1).numpy(), abs=1e-3)
        assert found.ends.flags.c_contiguous
