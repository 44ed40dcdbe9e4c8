"""What can't be used of a model's settings, or of its tokenizer's files, is told in one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from refine_af.config import ModelConfig
from refine_af.errors import UsageError
from refine_af.loading import load_model, load_tokenizer
from refine_af.lora import bare_network
from refine_af.model_settings import json_settings, model_settings
from refine_af.models import check_model, locate


def changed(model: Path, folder: Path, **fields: Any) -> Path:
    shutil.copytree(model, folder)
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | fields))
    return folder


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "[" * 100_000, '{"model_type": "llama"'])
def test_a_file_that_is_no_json_object_is_told_before_anything_is_loaded(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UsageError, match=r"config\.json holds no JSON object; download it again"):
        check_model(ModelConfig(name=str(tmp_path)))


def test_a_file_that_is_not_there_says_nothing(tmp_path: Path) -> None:
    assert json_settings(tmp_path / "generation_config.json") == {}


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"model_type": None}, "has no model_type"),
        ({"model_type": "nosuch"}, "transformers [0-9.]+ doesn't know the type nosuch; upgrade transformers, or"),
        ({"model_type": "nosuch", "auto_map": {"AutoConfig": "x.Y"}}, "type nosuch needs code of its repository"),
        ({"num_hidden_layers": "two"}, "it makes no causal language model .*num_hidden_layers"),
        ({"num_attention_heads": 0}, "it makes no causal language model .*zero"),
        ({"vocab_size": None}, "it makes no causal language model .*vocab_size"),
    ],
)
def test_settings_that_transformers_can_not_read_are_told(
    tiny_model: Path, tmp_path: Path, fields: dict[str, Any], told: str
) -> None:
    folder = changed(tiny_model, tmp_path / "m", **fields)
    with pytest.raises(UsageError, match=rf"config\.json.*{told}") as caught:
        model_settings(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fields", [{"hidden_act": "zzz"}, {"rope_parameters": {"rope_type": "zzz"}}])
def test_settings_of_which_no_network_can_be_made_are_told_before_and_when_it_is_loaded(
    tiny_model: Path, tmp_path: Path, fields: dict[str, Any]
) -> None:
    config = ModelConfig(name=str(changed(tiny_model, tmp_path / "m", **fields)))
    with pytest.raises(UsageError, match=r"it makes no causal language model .*zzz"):
        bare_network(tmp_path / "m")
    with pytest.raises(UsageError, match=r"it makes no causal language model .*zzz"):
        load_model(locate(config), config)


def test_a_tokenizer_is_not_blamed_for_the_settings(tiny_model: Path, tmp_path: Path) -> None:
    folder = changed(tiny_model, tmp_path / "m", num_attention_heads=0)
    with pytest.raises(UsageError, match=r"config\.json: it makes no causal language model"):
        load_tokenizer(locate(ModelConfig(name=str(folder))))


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("tokenizer.json", "{"),
        ("tokenizer.json", '{"version": "1.0"}'),
        ("tokenizer_config.json", '{"added_tokens_decoder": 3}'),
        ("tokenizer_config.json", "[]"),
    ],
)
def test_broken_files_of_a_tokenizer_are_told(tiny_model: Path, tmp_path: Path, file: str, text: str) -> None:
    folder = changed(tiny_model, tmp_path / "m")
    (folder / file).write_text(text)
    with pytest.raises(UsageError, match="the tokenizer of m can't be loaded") as caught:
        load_tokenizer(locate(ModelConfig(name=str(folder))))
    assert "\n" not in str(caught.value)
