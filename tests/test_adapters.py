"""Adapters that users bring: they write what peft writes with them, or are refused with what is not supported."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import (
    IA3Config,
    LoHaConfig,
    LoraConfig,
    OFTConfig,
    PeftModel,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
    get_peft_model,
)
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GPT2Config

from refine_af.adapters import check_adapter, put_on
from refine_af.config import load_config
from refine_af.engines.fused import fused_copy
from refine_af.engines.packed import PackedProduct
from refine_af.errors import RefineError, UsageError
from refine_af.evaluation.subject import find_subject
from refine_af.parts import Parts

IDS = torch.tensor([[7, 40, 90, 200, 31, 66, 120, 9]])
TARGETS = ["q_proj", "v_proj"]
Saved = Callable[..., Path]


@pytest.fixture
def saved(tiny_model: Path, tmp_path: Path) -> Saved:
    """An adapter on the tiny model that changes it, in a folder."""

    def save(settings: Any, model: Path = tiny_model, seed: int = 0) -> Path:
        adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(model), settings)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in adapted.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
        adapted.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
        return tmp_path / "adapter"

    return save


def lora(**settings: Any) -> LoraConfig:
    return LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": TARGETS, "task_type": "CAUSAL_LM"} | settings)


def network_of(model: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(model).eval().requires_grad_(False)


@torch.no_grad()
def logits(network: Any) -> torch.Tensor:
    found: torch.Tensor = network(input_ids=IDS).logits
    return found


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    file = folder / "adapter_model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


def resettle(folder: Path, **fields: Any) -> None:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


# --- What is supported writes what peft writes


@pytest.mark.parametrize(
    "settings",
    [
        lora(),
        lora(use_rslora=True),
        lora(use_dora=True),
        lora(target_modules="all-linear", rank_pattern={"k_proj": 2}, alpha_pattern={"k_proj": 3}),
        lora(target_modules=["q_proj", "lm_head"]),
        lora(layers_to_transform=[1]),
    ],
    ids=["plain", "rslora", "dora", "patterns", "head", "one-layer"],
)
def test_on_the_network_merged_into_a_copy_and_taken_off_again(
    settings: LoraConfig, saved: Saved, tiny_model: Path
) -> None:
    folder, network = saved(settings), network_of(tiny_model)
    base, expected = logits(network), logits(PeftModel.from_pretrained(network_of(tiny_model), str(folder)))
    assert not torch.allclose(base, expected, atol=1e-2)
    adapted = put_on(network, folder)
    assert torch.equal(logits(network), expected)
    torch.testing.assert_close(logits(fused_copy(network, IDS, PackedProduct)), expected, atol=1e-4, rtol=1e-4)
    adapted.unload()
    assert torch.equal(logits(network), base)


def test_where_the_layers_of_a_base_lie_the_other_way_round(tmp_path: Path, saved: Saved) -> None:
    """GPT-2's: its adapted layers stay as peft computes them."""
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=260, n_embd=16, n_layer=2, n_head=2)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "gpt2")
    folder = saved(lora(target_modules=["c_attn", "c_proj"], fan_in_fan_out=True), tmp_path / "gpt2")
    network = network_of(tmp_path / "gpt2")
    put_on(network, folder)
    expected = logits(PeftModel.from_pretrained(network_of(tmp_path / "gpt2"), str(folder)))
    torch.testing.assert_close(logits(fused_copy(network, IDS, PackedProduct)), expected, atol=1e-4, rtol=1e-4)


def test_a_tied_output_layer_is_not_merged_into_the_embeddings(tiny_model: Path, tmp_path: Path, saved: Saved) -> None:
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(tiny_model, tie_word_embeddings=True)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "tied")
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(tmp_path / "tied")
    folder = saved(lora(target_modules=["lm_head"]), tmp_path / "tied")
    network = network_of(tmp_path / "tied")
    put_on(network, folder)
    expected = logits(PeftModel.from_pretrained(network_of(tmp_path / "tied"), str(folder)))
    torch.testing.assert_close(logits(fused_copy(network, IDS, PackedProduct)), expected, atol=1e-4, rtol=1e-4)
    settings = [f"model.name={tmp_path / 'tied'}", "model.engine=ctranslate2", "model.quantization=float32"]
    parts = Parts(load_config(overrides=settings), tmp_path / "scratch")
    with (
        pytest.raises(UsageError, match=r"changes the output layer.*model\.engine=transformers"),
        parts.adapted_engine(folder),
    ):
        pass


# --- What is not supported is named


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (lora(lora_bias=True), "uses lora_bias, .*merge_and_unload"),
        (lora(bias="lora_only"), "uses bias"),
        (lora(modules_to_save=["lm_head"]), "uses modules_to_save"),
        (lora(trainable_token_indices=[3, 4]), "uses trainable_token_indices"),
        (lora(init_lora_weights="pissa"), "uses init_lora_weights=pissa"),
        (IA3Config(target_modules=["k_proj"], feedforward_modules=[], task_type="CAUSAL_LM"), "is IA3.*merge"),
        (OFTConfig(target_modules=TARGETS, oft_block_size=4, task_type="CAUSAL_LM"), "is OFT"),
        (LoHaConfig(target_modules=TARGETS, r=2, task_type="CAUSAL_LM"), "is LOHA"),
        (
            PromptTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM"),
            "is PROMPT_TUNING; only LoRA works.*can't be merged",
        ),
        (
            PrefixTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM"),
            "is PREFIX_TUNING; only LoRA works.*can't be merged",
        ),
        (
            PromptEncoderConfig(num_virtual_tokens=4, task_type="CAUSAL_LM"),
            "is P_TUNING; only LoRA works.*can't be merged",
        ),
    ],
    ids=lambda one: one.split()[-1] if isinstance(one, str) else one.peft_type.value,
)
def test_what_a_copy_of_the_layers_would_leave_out_is_refused(settings: Any, named: str, saved: Saved) -> None:
    folder = saved(settings)
    with pytest.raises(UsageError, match=named):
        check_adapter(folder)


@pytest.mark.parametrize(("key", "value"), [("r", 0), ("r", None), ("lora_alpha", "16"), ("lora_alpha", True)])
def test_a_size_that_is_none_is_told(key: str, value: Any, saved: Saved) -> None:
    folder = saved(lora())
    resettle(folder, **{key: value})
    with pytest.raises(UsageError, match=f"{key} is {value!r}, and must be a number above 0; save"):
        check_adapter(folder)


@pytest.mark.parametrize("wrong", [{"target_modules": "(q_proj"}, {"target_modules": 3}, {"rank_pattern": ["q_proj"]}])
def test_settings_that_peft_can_not_make_layers_of_are_told(wrong: Any, saved: Saved, tiny_model: Path) -> None:
    folder = saved(lora())
    resettle(folder, **wrong)
    with pytest.raises(UsageError, match="doesn't fit its base"):
        put_on(network_of(tiny_model), folder)


def test_an_option_of_a_later_peft_is_refused_by_its_name(saved: Saved) -> None:
    folder = saved(lora())
    resettle(folder, use_something_new=True, nothing_new=None)
    with pytest.raises(UsageError, match="uses use_something_new,"):
        check_adapter(folder)


def test_embeddings_as_targets_are_refused_and_the_network_stays_as_it_was(saved: Saved, tiny_model: Path) -> None:
    folder, network = saved(lora(target_modules=["embed_tokens", "q_proj"])), network_of(tiny_model)
    before = logits(network)
    with pytest.raises(UsageError, match="changes embed_tokens, which is no linear layer"):
        put_on(network, folder)
    assert torch.equal(logits(network), before)
    assert not any("lora" in name for name, _ in network.named_parameters())


# --- What doesn't fit


def renamed(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.replace("model.layers", "_orig_mod.model.layers"): one for name, one in weights.items()}


def half(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: one for name, one in weights.items() if "layers.0" in name}


def more(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return weights | {
        name.replace("layers.1", "layers.2"): one.clone() for name, one in weights.items() if "layers.1" in name
    }


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (renamed, "it lacks .*q_proj.lora_A"),
        (half, "it lacks .*layers.1.*lora_A.* and 3 more"),
        (lambda weights: {"x": torch.zeros(1)}, "it lacks .* and 7 more"),
        (more, "nothing there is called .*layers.2.* and 3 more"),
        (lambda weights: {name: one[:2].clone() for name, one in weights.items()}, "size mismatch for .*lora_A"),
    ],
    ids=["renamed", "half", "none", "of another base", "shapes"],
)
def test_weights_that_do_not_fit_are_told_and_leave_the_network_as_it_was(
    change: Any, told: str, saved: Saved, tiny_model: Path
) -> None:
    folder, network = saved(lora()), network_of(tiny_model)
    before = logits(network)
    rewrite(folder, change)
    with pytest.raises(UsageError, match=f"doesn't fit its base .*: {told}"):
        put_on(network, folder)
    assert torch.equal(logits(network), before)


@pytest.mark.parametrize(("fields", "told"), [({"r": 8}, "size mismatch"), ({"target_modules": ["query"]}, "query")])
def test_settings_that_do_not_fit_are_told(fields: dict[str, Any], told: str, saved: Saved, tiny_model: Path) -> None:
    folder = saved(lora())
    resettle(folder, **fields)
    with pytest.raises(UsageError, match=f"doesn't fit its base .*{told}"):
        put_on(network_of(tiny_model), folder)


def test_weights_that_are_no_numbers_are_named(saved: Saved, tiny_model: Path) -> None:
    folder = saved(lora())
    rewrite(folder, lambda weights: {name: one * float("nan") for name, one in weights.items()})
    with pytest.raises(RefineError, match=r"NaN or infinite weights .*lora_A"):
        put_on(network_of(tiny_model), folder)


def test_files_that_are_not_there_or_not_whole_are_told(saved: Saved) -> None:
    folder = saved(lora())
    file = folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(UsageError, match="incomplete or damaged"):
        check_adapter(folder)
    file.unlink()
    with pytest.raises(UsageError, match=r"has no adapter_model\.safetensors"):
        check_adapter(folder)
    (folder / "adapter_config.json").write_text("[")
    with pytest.raises(UsageError, match="holds no settings of an adapter"):
        check_adapter(folder)


def test_its_own_tokenizer_and_chat_template_speak_to_it(saved: Saved, tiny_model: Path, tmp_path: Path) -> None:
    folder = saved(lora())
    config = load_config(overrides=["model.quantization=float32"])
    before = find_subject(str(folder), config, "auto", None, tmp_path).settings
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.chat_template = "{% for m in messages %}[{{ m.content }}]{% endfor %}"
    tokenizer.save_pretrained(folder)
    after = find_subject(str(folder), config, "auto", None, tmp_path).settings
    assert (before["prompt"], after["prompt"]) == ("chat", "chat")
    assert before["template"] != after["template"]
