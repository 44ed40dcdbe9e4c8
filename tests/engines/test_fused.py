"""Copies made for reading: in 8 bits close to the network, packed the same, and what an adapter adds is in them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import AutoModelForCausalLM, LlamaConfig
from trl.trainer.utils import add_fused_lm_head

from refine_af.engines import fused
from refine_af.engines.decoder import Decoder
from refine_af.engines.fused import MakeProduct, fused_copy
from refine_af.engines.int8 import Int8Product, computes_int8
from refine_af.engines.packed import PackedProduct

SAMPLE = torch.tensor([[5, 9, 3, 33, 8, 21, 4, 17, 50, 11, 7, 13]])
OTHER = torch.tensor([[44, 2, 19, 8, 31, 5, 5, 40]])


@pytest.fixture
def network() -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=60,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        attention_bias=True,
        tie_word_embeddings=True,
    )
    network = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for one in network.parameters():
            if one.dim() == 2:
                one.normal_(0, 0.2)
    return network


# How far each kind may be from the network, as a share of its logits.
KINDS = pytest.mark.parametrize(("product", "near"), [(Int8Product, 0.06), (PackedProduct, 1e-5)])


@torch.no_grad()
def logits(network: Any, tokens: torch.Tensor = OTHER) -> torch.Tensor:
    return network(input_ids=tokens).logits[0].double()


def error(ours: torch.Tensor, exact: torch.Tensor) -> float:
    return float((ours - exact).norm() / exact.norm())


@KINDS
def test_it_computes_nearly_the_same_and_leaves_the_original_as_it_was(
    network: Any, product: MakeProduct, near: float
) -> None:
    before = {name: one.clone() for name, one in network.state_dict().items()}
    exact = logits(network)
    copy = fused_copy(network, SAMPLE, product)
    found = error(logits(copy), exact)
    assert found < near
    assert (found > 1e-5) is (product is Int8Product), "what is rounded can't be exact"
    assert torch.equal(logits(network), exact)
    assert all(torch.equal(one, network.state_dict()[name]) for name, one in before.items())


def test_a_network_that_trl_trains_is_copied_as_it_is_by_itself(network: Any) -> None:
    expected = logits(fused_copy(network, SAMPLE, Int8Product))
    add_fused_lm_head(network)
    copy = fused_copy(network, SAMPLE, Int8Product)
    assert torch.equal(logits(copy), expected)
    assert copy.forward.__self__ is copy


def test_a_large_input_costs_the_others_little(network: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One channel of a norm a hundred times as large, and its weights as much smaller, as trained networks have it."""
    with torch.no_grad():
        for layer in network.model.layers:
            layer.input_layernorm.weight[3] *= 100
            for one in (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj):
                one.weight[:, 3] /= 100
    exact = logits(network)
    moved = error(logits(fused_copy(network, SAMPLE, Int8Product)), exact)
    real = fused._families
    monkeypatch.setattr(
        fused, "_families", lambda *given: [(names, torch.ones_like(largest)) for names, largest in real(*given)]
    )
    assert moved < 0.06
    assert error(logits(fused_copy(network, SAMPLE, Int8Product)), exact) > 2 * moved


def test_layers_that_read_the_same_are_computed_together(network: Any) -> None:
    names = [names for names, _ in fused._families(network, SAMPLE)]
    assert [[name.rpartition(".")[2] for name in some] for some in names] == [
        ["q_proj", "k_proj", "v_proj"],
        ["o_proj"],
        ["gate_proj", "up_proj"],
        ["down_proj"],
    ] * 2 + [["lm_head"]]


@KINDS
def test_an_active_adapter_is_in_the_copy_and_one_that_is_switched_off_is_not(
    network: Any, product: MakeProduct, near: float
) -> None:
    plain = logits(network)
    adapted = get_peft_model(network, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    base = adapted.get_base_model()
    with_adapter = logits(base)
    assert error(with_adapter, plain) > 0.1, "the adapter matters, or this proves little"
    assert error(logits(fused_copy(base, SAMPLE, product)), with_adapter) < near
    for layer in base.modules():
        if isinstance(layer, BaseTunerLayer):
            layer.enable_adapters(False)
    assert error(logits(fused_copy(base, SAMPLE, product)), plain) < near


def test_a_copy_of_a_network_in_bfloat16_computes_in_float32(network: Any) -> None:
    copy = fused_copy(network.bfloat16(), SAMPLE, Int8Product)
    with torch.no_grad():
        assert copy(input_ids=OTHER).logits.dtype == torch.float32
    assert error(logits(copy), logits(network)) < 0.06
    assert all(one.dtype == torch.bfloat16 for one in network.parameters())


@pytest.mark.parametrize("product", [Int8Product, PackedProduct])
def test_what_stands_beside_a_token_does_not_change_what_it_gets(network: Any, product: MakeProduct) -> None:
    copy = fused_copy(network, SAMPLE, product)
    asked = [(OTHER[0].tolist(), range(8)), (SAMPLE[0].tolist(), range(12))]
    decoder = Decoder(copy, ends=(2,), most_rows=2)
    together = {number: found[own] for found, texts in decoder.logits(asked) for number, own in texts.items()}
    apart = [next(decoder.logits([one]))[0] for one in asked]
    for one, other in zip((together[0], together[1]), apart, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("found", "expected"), [({"avx512_vnni": True}, True), ({"avx2": True, "avx512_vnni": False}, False), ({}, False)]
)
def test_int8_needs_instructions_for_it(
    found: dict[str, bool], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)
    computes_int8.cache_clear()
    try:
        assert computes_int8() is expected
    finally:
        computes_int8.cache_clear()
