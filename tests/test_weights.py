"""Weights: all of them or none. What a file lacks, or holds in another form, is told and never made up by chance."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    Qwen2Config,
)

from refine_af.config import Config, ModelConfig, load_config
from refine_af.errors import RefineError, UsageError
from refine_af.loading import load_model
from refine_af.models import check_model, locate
from refine_af.parts import Parts
from refine_af.run import Run
from refine_af.weights import fingerprint

Weights = dict[str, torch.Tensor]


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny_model, tmp_path / "mine")
    return tmp_path / "mine"


def loaded(folder: Path) -> Any:
    config = ModelConfig(name=str(folder))
    return load_model(locate(config), config)


def rewrite(folder: Path, change: Callable[[Weights], Weights]) -> None:
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


def reconfigure(folder: Path, **fields: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def test_a_layer_that_is_missing_is_named(folder: Path) -> None:
    rewrite(folder, lambda weights: {name: one for name, one in weights.items() if "layers.1" not in name})
    with pytest.raises(
        UsageError, match=r"mine lacks the weights model\.layers\.1\..* and 6 more; download or save it again"
    ):
        loaded(folder)


@pytest.mark.parametrize(
    ("prefix", "by"), [("_orig_mod.", "torch.compile"), ("module.", "DataParallel"), ("base_model.model.", "")]
)
def test_names_that_all_begin_alike_are_told_with_what_to_do(folder: Path, prefix: str, by: str) -> None:
    rewrite(folder, lambda weights: {prefix + name: one for name, one in weights.items()})
    with pytest.raises(UsageError, match=f"{prefix}lm_head.weight.*wrapped.*{by}.*save it again without '{prefix}'"):
        loaded(folder)


@pytest.mark.parametrize("name", ["model.layers.0.self_attn.q_proj.weight", "lm_head.weight"])
def test_a_weight_of_another_shape_is_told_with_both(folder: Path, name: str) -> None:
    rewrite(folder, lambda weights: weights | {name: weights[name][:-1].clone()})
    with pytest.raises(UsageError, match=rf"{name} of mine has the shape \(\d+, 32\), but its config\.json asks for"):
        loaded(folder)


@pytest.mark.parametrize("name", ["model.layers.0.self_attn.q_proj.bias", "model.layers.2.mlp.up_proj.weight"])
def test_weights_that_the_config_leaves_out_are_told(folder: Path, name: str) -> None:
    """A bias, or a layer more: the network would write without them, and something else."""
    rewrite(folder, lambda weights: weights | {name: torch.zeros(4)})
    with pytest.raises(UsageError, match=f"mine has the weights {name}, which its config.json leaves out"):
        loaded(folder)


def test_what_older_files_hold_beside_the_weights_is_passed_over(folder: Path) -> None:
    old = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8), "mtp.fc.weight": torch.ones(2, 2)}
    rewrite(folder, lambda weights: weights | old)
    loaded(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_named(folder: Path, value: float) -> None:
    name = "model.layers.1.mlp.up_proj.weight"
    rewrite(folder, lambda weights: weights | {name: weights[name].index_fill(0, torch.tensor(3), value)})
    with pytest.raises(RefineError, match=f"not finite numbers: {name}"):
        loaded(folder)


@pytest.mark.parametrize("tied", [True, False])
def test_a_reward_model_is_no_policy(tiny_model: Path, tmp_path: Path, tied: bool) -> None:
    config = LlamaConfig.from_pretrained(tiny_model, num_labels=1, tie_word_embeddings=tied)
    LlamaForSequenceClassification(config).save_pretrained(tmp_path / "judge")
    with pytest.raises(UsageError, match="judge is a LlamaForSequenceClassification, which has no language-model head"):
        loaded(tmp_path / "judge")


@pytest.mark.parametrize(
    "config",
    [
        Qwen2Config(
            vocab_size=40,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            tie_word_embeddings=True,
        ),
        GPT2Config(vocab_size=40, n_embd=16, n_layer=1, n_head=2),
    ],
    ids=lambda config: config.model_type,
)
def test_a_tied_head_need_not_be_in_the_file(config: Any, tmp_path: Path) -> None:
    network = AutoModelForCausalLM.from_config(config)
    network.save_pretrained(tmp_path)
    assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")
    ids = torch.tensor([[3, 4, 5]])
    assert torch.equal(loaded(tmp_path)(ids).logits, network.eval()(ids).logits)


# --- Files that were not fetched whole


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_pointer_in_a_files_place_is_told_before_anything_is_loaded(folder: Path, name: str) -> None:
    (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(UsageError, match=f"{name} is a git-lfs pointer.*git lfs pull"):
        check_model(ModelConfig(name=str(folder)))


@pytest.mark.parametrize("kept", [0, 5, 100, 20_000])
def test_a_file_that_was_cut_short_is_told_before_anything_is_loaded(folder: Path, kept: int) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(UsageError, match=r"model\.safetensors is incomplete or damaged; download it again"):
        check_model(ModelConfig(name=str(folder)))


def test_a_pickle_is_read_whole_or_told(folder: Path) -> None:
    file = folder / "pytorch_model.bin"
    torch.save(load_file(folder / "model.safetensors"), file)
    (folder / "model.safetensors").unlink()
    loaded(folder)
    file.write_bytes(file.read_bytes()[:20_000])
    with pytest.raises(UsageError, match=r"pytorch_model\.bin is incomplete or damaged"):
        check_model(ModelConfig(name=str(folder)))


def test_a_shard_is_looked_into_and_one_that_is_not_there_is_named(folder: Path, tiny_model: Path) -> None:
    (folder / "model.safetensors").unlink()
    LlamaForCausalLM.from_pretrained(tiny_model).save_pretrained(folder, max_shard_size="60KB")
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 1
    loaded(folder)
    whole = shards[0].read_bytes()
    shards[0].write_bytes(whole[:-1])
    with pytest.raises(UsageError, match=f"{shards[0].name} is incomplete"):
        check_model(ModelConfig(name=str(folder)))
    shards[0].unlink()
    check_model(ModelConfig(name=str(folder)))
    with pytest.raises(UsageError, match=f"{shards[0].name} of mine are not in .*; get them from where"):
        loaded(folder)


def test_a_file_that_is_not_loaded_may_be_a_pointer(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_text("version https://git-lfs.github.com/spec/v1\n")
    check_model(ModelConfig(name=str(folder)))


# --- What is no model's folder


def test_an_adapter_given_as_a_model_is_told_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(UsageError, match="is an adapter, not a model; merge it into its base"):
        check_model(ModelConfig(name=str(tmp_path)))


def test_a_gguf_file_and_a_folder_of_one_are_told(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    for name in (tmp_path / "m.gguf", tmp_path):
        with pytest.raises(UsageError, match=r"GGUF file.*give a folder saved by transformers"):
            check_model(ModelConfig(name=str(name)))


def test_a_tokenizer_with_more_tokens_than_embeddings_is_refused(folder: Path, tmp_path: Path) -> None:
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"pad_token": "<|padding|>"}))
    parts = Parts(load_config(overrides=[f"model.name={folder}"]), tmp_path)
    with pytest.raises(UsageError, match=r"tokenizer of mine has \d+ tokens, but the model has embeddings of"):
        parts.network  # noqa: B018


def test_a_fingerprint_is_of_what_the_files_say_and_not_of_where_or_when(folder: Path, tiny_model: Path) -> None:
    assert fingerprint(folder) == fingerprint(tiny_model)
    (folder / "README.md").write_text("not a part of the model")
    os.utime(folder / "model.safetensors", (1, 1))
    assert fingerprint(folder) == fingerprint(tiny_model)
    rewrite(folder, lambda weights: {name: one + 1e-3 for name, one in weights.items()})
    changed = fingerprint(folder)
    assert changed != fingerprint(tiny_model)
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}")
    assert fingerprint(folder) != changed


def test_a_run_does_not_go_on_with_a_model_that_has_changed(folder: Path, tiny_config: Config, tmp_path: Path) -> None:
    config = tiny_config.model_copy(update={"model": tiny_config.model.model_copy(update={"name": str(folder)})})
    Run(config, tmp_path / "run").execute(until="seeds")
    Run(config, tmp_path / "run").execute(until="seeds")
    rewrite(folder, lambda weights: {name: one * 1.01 for name, one in weights.items()})
    with pytest.raises(UsageError, match=r"files of the model .* have changed since the run in .* began"):
        Run(config, tmp_path / "run").execute(until="seeds")
