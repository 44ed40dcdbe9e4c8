"""Promises of a model's ends: every token that its tokenizer, its files and its template end an answer with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from refine_af.config import load_config
from refine_af.ends import Ends, find_ends
from refine_af.errors import UsageError
from refine_af.parts import Parts
from refine_af.stages.finetune import training_rows

WORDS = ["<unk>", "word", "blue", "user", "assistant", "system"]


def tokenizer_of(special: list[str], *, end: str, template: str | None, start: str | None = None) -> Any:
    """Whole words, and the special tokens behind them, in their order."""
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens(special)
    named = {"bos_token": start} if start else {}
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token=end, chat_template=template, **named)


def ends_in(folder: Path, tokenizer: Any, **files: Any) -> tuple[str, set[str]]:
    """The closing token and all ends, as text. ``files``: the fields of settings, by the file's name."""
    for name, fields in files.items():
        (folder / f"{name}.json").write_text(json.dumps(fields))
    ends = find_ends(folder, tokenizer)
    assert list(ends.all) == sorted(set(ends.all))
    return tokenizer.decode([ends.closing]), {tokenizer.decode([token]) for token in ends.all}


def ids_of(tokenizer: Any, *tokens: str) -> list[int]:
    return [tokenizer.convert_tokens_to_ids(token) for token in tokens]


def test_llama_3_ends_a_turn_with_a_token_of_its_own_and_a_text_with_another(tmp_path: Path) -> None:
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|eom_id|>", "<|head|>", "<|head_end|>"]
    template = (
        "{{ bos_token }}{% for m in messages %}<|head|>{{ m.role }}<|head_end|>\n\n{{ m.content | trim }}<|eot_id|>"
        "{% endfor %}{% if add_generation_prompt %}<|head|>assistant<|head_end|>\n\n{% endif %}"
    )
    tokenizer = tokenizer_of(special, end="<|end_of_text|>", start="<|begin_of_text|>", template=template)
    named = {"eos_token_id": ids_of(tokenizer, "<|end_of_text|>", "<|eom_id|>")}
    closing, ends = ends_in(tmp_path, tokenizer, generation_config=named)
    assert (closing, ends) == ("<|eot_id|>", {"<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"})


def test_gemma_ends_a_turn_in_a_template_without_a_system_role(tmp_path: Path) -> None:
    special = ["<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"]
    template = (
        "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('no system here') }}{% endif %}"
        "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('turn by turn') }}{% endif %}"
        "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<end_of_turn>\n"
        "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
    )
    tokenizer = tokenizer_of(special, end="<eos>", start="<bos>", template=template)
    config = {"text_config": {"eos_token_id": ids_of(tokenizer, "<eos>", "<end_of_turn>")}}
    assert ends_in(tmp_path, tokenizer, config=config) == ("<end_of_turn>", {"<eos>", "<end_of_turn>"})


def test_phi_3_ends_a_turn_and_then_the_text(tmp_path: Path) -> None:
    special = ["<|endoftext|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"]
    template = (
        "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}"
    )
    tokenizer = tokenizer_of(special, end="<|endoftext|>", template=template)
    named = {"eos_token_id": ids_of(tokenizer, "<|endoftext|>", "<|assistant|>", "<|end|>")}
    closing, ends = ends_in(tmp_path, tokenizer, generation_config=named)
    assert (closing, ends) == ("<|end|>", {"<|endoftext|>", "<|assistant|>", "<|end|>"})


CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.mark.parametrize("end", ["<|endoftext|>", "<|im_end|>"])
def test_chatml_closes_a_turn_whatever_the_tokenizer_ends_with(end: str, tmp_path: Path) -> None:
    tokenizer = tokenizer_of(["<|endoftext|>", "<|im_start|>", "<|im_end|>"], end=end, template=CHATML)
    (text,) = ids_of(tokenizer, "<|endoftext|>")
    closing, ends = ends_in(tmp_path, tokenizer, config={"eos_token_id": text})
    assert (closing, ends) == ("<|im_end|>", {"<|endoftext|>", "<|im_end|>"})


def test_where_all_name_one_token_it_is_the_only_end(tmp_path: Path) -> None:
    tokenizer = tokenizer_of(["<|endoftext|>", "<|im_start|>", "<|im_end|>"], end="<|im_end|>", template=CHATML)
    (end,) = ids_of(tokenizer, "<|im_end|>")
    named = {"eos_token_id": end}
    assert ends_in(tmp_path, tokenizer, generation_config=named, config=named) == ("<|im_end|>", {"<|im_end|>"})
    assert find_ends(tmp_path, tokenizer) == Ends(end, (end,))


@pytest.mark.parametrize("gap", ["", " "])
def test_mistral_closes_a_turn_with_the_end_of_the_text(gap: str, tmp_path: Path) -> None:
    template = (
        "{{ bos_token }}{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('user and assistant take turns') }}{% endif %}"
        "{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %}"
        f"{gap}{{{{ m.content }}}}{gap}{{{{ eos_token }}}}{{% endif %}}{{% endfor %}}"
    )
    tokenizer = tokenizer_of(["<s>", "</s>", "[INST]", "[/INST]"], end="</s>", start="<s>", template=template)
    assert ends_in(tmp_path, tokenizer, generation_config={"eos_token_id": 7}) == ("</s>", {"</s>"})


def test_a_base_model_ends_with_its_tokenizers_token(tmp_path: Path) -> None:
    tokenizer = tokenizer_of(["<s>", "</s>"], end="</s>", start="<s>", template=None)
    assert ends_in(tmp_path, tokenizer) == ("</s>", {"</s>"})
    assert ends_in(tmp_path, tokenizer, generation_config={}, config={"eos_token_id": None}) == ("</s>", {"</s>"})


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}### {{ m.role }}:\n{{ m.content }}\n\n{% endfor %}",
        "{% for m in messages %}{{ m.content }}\n{% endfor %}word <|other|>",
        "{% for m in messages %}{{ m.content }}{% endfor %}",
        "{% for m in messages if m.role == 'user' %}{{ m.content }}<|other|>{% endfor %}",
        "{{ raise_exception('never') }}",
    ],
)
def test_a_template_that_closes_a_turn_with_no_special_token_adds_nothing(template: str, tmp_path: Path) -> None:
    tokenizer = tokenizer_of(["</s>", "<|other|>"], end="</s>", template=template)
    assert ends_in(tmp_path, tokenizer) == ("</s>", {"</s>"})


def test_the_longer_of_two_tokens_that_begin_alike_is_the_one(tmp_path: Path) -> None:
    tokenizer = tokenizer_of(["</s>", "<end>", "<end>>"], end="</s>", template="{{ messages[1].content }}<end>>")
    assert ends_in(tmp_path, tokenizer) == ("<end>>", {"</s>", "<end>>"})


def test_what_settings_name_counts_only_where_it_is_no_word(tmp_path: Path) -> None:
    """2 is what a configuration of Llama names by default, whatever the vocabulary is."""
    tokenizer = tokenizer_of(["</s>"], end="</s>", template=None)
    assert WORDS[2] == "blue"
    named = {"eos_token_id": [2, 999, -1]}
    assert ends_in(tmp_path, tokenizer, generation_config=named, config={"eos_token_id": 2}) == ("</s>", {"</s>"})


def test_a_broken_file_of_settings_is_named(tmp_path: Path) -> None:
    tokenizer = tokenizer_of(["</s>"], end="</s>", template=None)
    (tmp_path / "generation_config.json").write_text("{")
    with pytest.raises(UsageError, match=r"generation_config\.json holds no JSON object"):
        find_ends(tmp_path, tokenizer)


def test_fine_tuning_closes_an_answer_as_the_template_does(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "chat"
    shutil.copytree(tiny_model, folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"eos_token": "<s>", "pad_token": "<s>"}))
    config = load_config(overrides=[f"model.name={folder}"])
    parts = Parts(config, tmp_path)
    instruction, pair = SimpleNamespace(id="i", text="Describe"), SimpleNamespace(output=" a bird")
    pair.instruction_id, pair.input = "i", ""
    context: Any = SimpleNamespace(
        config=config, parts=parts, store=SimpleNamespace(instructions=lambda: [instruction])
    )
    pairs: Any = [pair]
    ((row,), _) = training_rows(context, pairs)
    learned = [token for token in row["labels"] if token != -100]
    assert parts.tokenizer.decode(learned) == " a bird</s>"
    assert parts.tokenizer.eos_token == "<s>"
