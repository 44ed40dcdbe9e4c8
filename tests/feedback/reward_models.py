"""Reward models small enough to be built in a test: random networks in the files of published ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from refine_af.feedback.base import Example

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

EXAMPLES = [
    Example("Name a colour.", "", "Blue."),
    Example("Translate into French.", "The house is small and the garden is large.", "La maison est petite."),
    Example("Say yes.", "", ""),
    Example("Write a long text about rivers and the sea.", "", "A river runs to the sea. " * 6),
    Example("Sort the words.", "pear apple fig", "apple, fig, pear"),
]


def byte_tokenizer(folder: Path, **settings: Any) -> None:
    """A byte-level tokenizer with OpenAssistant's markers, in the files of a Hub model."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = {word: i for i, word in enumerate(["<|endoftext|>", "<|padding|>", *letters])}
    tokenizer = Tokenizer(models.BPE(vocab=words, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>", "<|padding|>", "<|prompter|>", "<|assistant|>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    named = {
        "tokenizer_class": "GPTNeoXTokenizer",
        "eos_token": "<|endoftext|>",
        "bos_token": "<|endoftext|>",
    }
    extra = {"unk_token": "<|endoftext|>", "pad_token": "<|padding|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps({**named, **extra, **settings}))


SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "vocab_size": 272,
    "max_position_embeddings": 512,
}
# As in the published config.json: rotary settings under their old names.
PUBLISHED = {
    **SIZES,
    "architectures": ["GPTNeoXRewardModel"],
    "model_type": "gpt_neox_reward_model",
    "pooling": "last",
    "rotary_pct": 0.5,
    "rotary_emb_base": 500,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "use_parallel_residual": True,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "transformers_version": "4.28.0.dev0",
}


def network() -> tuple[Any, Any]:
    """A random GPT-NeoX and head, built without the code under test."""
    torch.manual_seed(0)
    rope = {"rope_type": "default", "rope_theta": 500.0, "partial_rotary_factor": 0.5}
    config = transformers.GPTNeoXConfig(**SIZES, rope_parameters=rope, initializer_range=0.3)
    return transformers.GPTNeoXModel(config).eval(), torch.nn.Linear(16, 1)


def checkpoint(folder: Path, layout: str, **changes: Any) -> Path:
    """The published layout in ``layout``: bin, safetensors, or either in shards."""
    from safetensors.torch import save_file

    body, head = network()
    state = {f"gpt_neox.{name}": tensor.clone() for name, tensor in body.state_dict().items()}
    state |= {f"out_proj.{name}": tensor.detach().clone() for name, tensor in head.state_dict().items()}
    for i in range(2):  # old versions of transformers saved their masks
        state[f"gpt_neox.layers.{i}.attention.bias"] = torch.ones(1, 1, 8, 8, dtype=torch.bool).tril()
        state[f"gpt_neox.layers.{i}.attention.masked_bias"] = torch.tensor(-1e9)
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**PUBLISHED, **changes}))
    byte_tokenizer(folder)
    stem, end = ("pytorch_model", "bin") if "bin" in layout else ("model", "safetensors")

    def save(tensors: dict[str, Any], name: str) -> None:
        if end == "bin":
            torch.save(tensors, folder / name)
        else:
            save_file(tensors, folder / name, metadata={"format": "pt"})

    if "shards" not in layout:
        save(state, f"{stem}.{end}")
        return folder
    shards = [dict(list(state.items())[k::2]) for k in range(2)]
    places = {}
    for k, shard in enumerate(shards, 1):
        name = f"{stem}-0000{k}-of-00002.{end}"
        save(shard, name)
        places |= dict.fromkeys(shard, name)
    index = {"metadata": {"total_size": 1}, "weight_map": places}
    (folder / f"{stem}.{end}.index.json").write_text(json.dumps(index))
    return folder
