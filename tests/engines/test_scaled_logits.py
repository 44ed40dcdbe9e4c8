"""What engines score and sample by is the network's own forward pass: scaled, capped, or of a network that a copy of
its layers would break."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from engine_cases import FREE, PROMPTS, SCORED
from networks import SIZES, network_of
from transformers import (
    AutoTokenizer,
    CohereConfig,
    Gemma2Config,
    GraniteConfig,
    LlamaConfig,
    MambaConfig,
)

from refine_af.ends import Ends
from refine_af.engines.ctranslate2 import can_convert
from refine_af.engines.fused import FusedLinear
from refine_af.engines.packed import PackedProduct
from refine_af.engines.transformers import TransformersEngine


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_model)


def config_of(name: str, vocabulary: int) -> Any:
    sizes = SIZES | {"vocab_size": vocabulary}
    mamba = {k: v for k, v in sizes.items() if k in ("vocab_size", "hidden_size", "num_hidden_layers")}
    configs = {
        "granite": lambda: GraniteConfig(**sizes, logits_scaling=8.0),
        "cohere": lambda: CohereConfig(**sizes, logit_scale=0.0625),
        "gemma2": lambda: Gemma2Config(**sizes, final_logit_softcapping=2.0),
        "llama": lambda: LlamaConfig(**sizes),
        "mamba": lambda: MambaConfig(**mamba, state_size=4),
    }
    return configs[name]()


@pytest.mark.parametrize("product", [None, PackedProduct], ids=["in place", "packed"])
@pytest.mark.parametrize("name", ["granite", "cohere", "gemma2", "llama", "mamba"])
def test_scores_and_samples_are_those_of_the_forward_pass(name: str, product: Any, tokenizer: Any) -> None:
    network = network_of(config_of(name, len(tokenizer)))
    engine = TransformersEngine(
        network, tokenizer, model=name, ends=Ends(2, (2,)), batch_size=8, adapter=False, product=product
    )

    def expected(before: list[int], after: list[int]) -> list[float]:
        if not after:
            return []
        with torch.no_grad():
            logits = network(input_ids=torch.tensor([before + after])).logits[0, len(before) - 1 : -1]
        found: list[float] = logits.log_softmax(-1)[range(len(after)), after].tolist()
        return found

    for (context, text), one in zip(SCORED, engine.log_probs(SCORED), strict=True):
        before = tokenizer.encode(context) or [tokenizer.eos_token_id]
        assert one.tolist() == pytest.approx(expected(before, tokenizer.encode(text)), abs=1e-3)
    (made,) = engine.generate([PROMPTS], FREE.model_copy(update={"max_tokens": 6}), seed=0, log_probs=True)
    for suffix, done in zip(PROMPTS.suffixes, made, strict=True):
        before = tokenizer.encode(PROMPTS.prefix) + tokenizer.encode(suffix)
        assert done.log_probs == pytest.approx(expected(before, list(done.token_ids)), abs=1e-3)


@pytest.mark.parametrize(("name", "copied"), [("llama", True), ("granite", True), ("mamba", False)])
def test_a_copy_is_made_where_it_computes_the_same(name: str, copied: bool, tokenizer: Any) -> None:
    """Mamba asks its output layer for the dtype of its weight."""
    network = network_of(config_of(name, len(tokenizer)))
    engine = TransformersEngine(network, tokenizer, model=name, ends=Ends(2, (2,)), batch_size=8, product=PackedProduct)
    engine.log_probs(SCORED[:1])
    assert any(isinstance(module, FusedLinear) for module in engine._network.modules()) is copied


def test_what_ctranslate2_would_convert_without_its_caps_is_not_converted() -> None:
    assert not can_convert("Gemma2Config")
    assert can_convert("LlamaConfig")
