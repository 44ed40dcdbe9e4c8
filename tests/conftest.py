"""A tiny random model and settings for whole runs on it, so that every stage is tested in seconds and offline.

The model draws words almost at random, with a share for the end token and for what ends lists and turns, so that the
parsers and filters find something to keep and something to drop.
"""

from __future__ import annotations

import math
import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from serving import Server

from refine_af.config import Config, load_config


def _words(text: str) -> list[str]:
    return text.split()


VERBS = _words(
    "Write Describe Explain List Give Name Find Count Sort Translate Summarise Compare Choose Rewrite Suggest Draft "
    "Tell Answer Correct Classify Decide Identify Convert Calculate Compose Plan Design Invent Complete Shorten "
    "Imagine Define Discuss Create Make Turn Put Say Pick Check Rate Rank Match Guess Solve Outline Propose Prove "
    "Simplify Expand Replace Remove Add Extract Label Group Split Join Order Recommend"
)
NOUNS = _words(
    "letter story poem recipe joke word sentence paragraph number city river mountain garden house school teacher "
    "student doctor friend child dog cat bird tree flower bread soup apple cake water morning evening winter summer "
    "week year price book song film game train ticket road bridge market shop machine phone colour shape idea reason "
    "problem question rule plan mistake habit hobby journey holiday party meeting email title advice feeling surprise "
    "animal country language history science music weather health money time"
)
OTHERS = _words(
    "the a an of for to in on with about from and or that is are was it this between without before after as at by "
    "short long simple funny new old small large green blue quiet friendly polite careful warm cold three two one "
    "four five ten not why how what when who each every any all"
)
_MARKS = [".", ",", "?", "!", ":", ";", "-", "(", ")", '"', "'", " (", ' "', " -"]
_NUMBERS = [f"{lead}{n}." for n in range(1, 17) for lead in ("", "\n")]
_SPECIAL = ["<unk>", "<s>", "</s>", "<|system|>", "<|user|>", "<|assistant|>"]
_HEADINGS = ["\n### ", "### Task\n", "### Answer\n", "### Input\n", "### Label\n", "\n", "\n\n", " "]
_PIECE = r"\n\d+\.|\n### |### (?:Task|Answer|Input|Label)\n|\n\n|\n|\d+\.| ?[A-Za-z]+| [(\"-]| ?\d|[^\sA-Za-z\d]|\s"
_TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

TINY_SETTINGS: dict[str, Any] = {
    "threads": 1,
    "model.quantization": "float32",
    "model.batch_size": 16,
    "instructions.target": 14,
    "instructions.method": "openings",
    "instructions.continuations": 3,
    "instructions.demonstrations": 4,
    "instructions.max_demonstration_words": 16,
    "instructions.prompts_per_round": 6,
    "instructions.max_words": 60,
    "instructions.sampling.max_tokens": 40,
    "instructions.sampling.temperature": 1.0,
    "instructions.sampling.top_p": 1.0,
    "instructions.sampling.top_k": 0,
    "feedback.calibrated_on": 12,
    "policy.algorithm": "ppo",
    "policy.iterations": 3,
    "policy.rollouts": 6,
    "policy.epochs": 1,
    "policy.minibatch": 3,
    "policy.micro_batch": 3,
    "policy.learning_rate": 1e-3,
    "policy.held_out": 4,
    "policy.held_out_samples": 2,
    "policy.held_out_every": 2,
    "policy.lora.rank": 4,
    "policy.lora.alpha": 8,
    "policy.lora.targets": ["q_proj", "v_proj"],
    "instances.candidates": 3,
    "instances.demonstrations": 2,
    "instances.max_demonstration_words": 24,
    "instances.sampling.max_tokens": 40,
    "instances.sampling.temperature": 1.0,
    "instances.sampling.top_p": 1.0,
    "instances.sampling.top_k": 0,
    "finetune.epochs": 1,
    "finetune.batch_size": 4,
    "finetune.micro_batch": 4,
    "finetune.max_length": 128,
    "finetune.checkpoint_steps": 2,
    "finetune.lora.rank": 4,
    "finetune.lora.alpha": 8,
    "finetune.lora.targets": ["q_proj", "v_proj"],
    "evaluation.max_tokens": 12,
}


# A law holds or not; how long a case takes depends on what else the machine does.
settings.register_profile("laws", deadline=None)
settings.load_profile("laws")


def pytest_configure(config: pytest.Config) -> None:
    # Before any test module is imported: huggingface_hub reads it once.
    os.environ["HF_HUB_OFFLINE"] = "1"
    # Figures are compared to the last digits of a CPU's; what a GPU computes, benchmarks/gpu.py compares.
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    # Before torch is imported, here and in what tests start: the models are tiny, and tests run beside one another.
    os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """A run on all cores leaves its threads to the tests behind it, which then wait for each other: minutes for
    seconds on a busy machine."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nothing of the user's cache is read or written."""
    os.environ["REFINE_AF_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny random Llama and a tokenizer that has a chat template."""
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny-chat", chat_template=_TEMPLATE)


@pytest.fixture(scope="session")
def tiny_base_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same weights without a chat template: a base model."""
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny-base", chat_template=None)


@pytest.fixture
def tiny_family(tmp_path: Path) -> Callable[..., Path]:
    """Saves a tiny base model of a family of transformers, with more of its settings."""

    def save(family: str, **settings: Any) -> Path:
        return save_tiny_model(tmp_path / f"tiny-{family}", chat_template=None, family=family, **settings)

    return save


@pytest.fixture(scope="session")
def varied_models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same with other weights, which give different tasks different answers, greedily: with a chat template, and
    without."""
    return _both_kinds(tmp_path_factory.mktemp("models"), seed=6)


@pytest.fixture(scope="session")
def wordy_models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same with weights that go on, greedily, from few words and from many, to different lengths."""
    return _both_kinds(tmp_path_factory.mktemp("models"), seed=59)


def _both_kinds(folder: Path, seed: int) -> tuple[Path, Path]:
    chat, base = (
        save_tiny_model(folder / name, chat_template=template, seed=seed)
        for name, template in (("chat", _TEMPLATE), ("base", None))
    )
    return chat, base


@pytest.fixture(scope="session")
def tiny_wide_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As wide as a block of weights that are quantised to four bits."""
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny-wide", chat_template=_TEMPLATE, width=64)


@pytest.fixture(scope="session")
def tiny_settings(tiny_model: Path) -> list[str]:
    """The settings of a whole run on the tiny model, as values of ``--set``."""
    return tiny_overrides(tiny_model)


@pytest.fixture(scope="session")
def tiny_arguments(tiny_settings: list[str]) -> list[str]:
    """The same as command-line arguments: ``--set``, ``key=value``, ``--set``, ..."""
    return [argument for setting in tiny_settings for argument in ("--set", setting)]


@pytest.fixture(scope="session")
def tiny_config(tiny_settings: list[str]) -> Config:
    """A whole run on the tiny model, from seeds to report, in some seconds."""
    return load_config(overrides=tiny_settings)


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Server]]:
    """Starts servers that live as long as the test; whoever asks them is not patient."""
    from refine_af import endpoint

    monkeypatch.setattr(endpoint, "_FIRST_WAIT", 0.01)
    monkeypatch.setattr(endpoint, "_LONGEST_WAIT", 0.05)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    servers: list[Server] = []

    def start(answer: Any) -> Server:
        servers.append(Server(answer if callable(answer) else lambda request: answer))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def tiny_overrides(model: Path, **changes: Any) -> list[str]:
    """``key=value`` settings of a whole run on the model of a folder; ``a__b=1`` stands for ``a.b=1``."""
    settings = {"model.name": str(model)} | TINY_SETTINGS | {k.replace("__", "."): v for k, v in changes.items()}
    return [f"{key}={_yaml(value)}" for key, value in settings.items()]


def _yaml(value: Any) -> str:
    return "[" + ", ".join(value) + "]" if isinstance(value, list) else str(value)


def save_tiny_model(
    folder: Path, *, chat_template: str | None, seed: int = 0, width: int = 32, family: str = "Llama", **settings: Any
) -> Path:
    """``settings``: more of the family's own."""
    tokenizer = _tokenizer(chat_template)
    _network(tokenizer, seed, width, family, settings).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _tokenizer(chat_template: str | None) -> Any:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = [*VERBS, *NOUNS, *OTHERS, "Yes", "No"]
    pieces = [*_SPECIAL, *_HEADINGS, *_NUMBERS, *_MARKS, *words, *(f" {w}" for w in words)]
    tokenizer = Tokenizer(models.WordLevel({p: i for i, p in enumerate(dict.fromkeys(pieces))}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_PIECE), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(_SPECIAL)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="</s>",
        chat_template=chat_template,
        clean_up_tokenization_spaces=False,
    )


def _network(tokenizer: Any, seed: int, width: int, family: str, settings: dict[str, Any]) -> Any:
    """Random weights, save that the first channel is the same everywhere, which gives every token its share."""
    import torch
    import transformers

    config = getattr(transformers, f"{family}Config")(
        vocab_size=len(tokenizer),
        hidden_size=width,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=2 * width,
        max_position_embeddings=512,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
        dtype="float32",
        **settings,
    )
    generator = torch.Generator().manual_seed(seed)
    network = getattr(transformers, f"{family}ForCausalLM")(config)
    vocabulary = tokenizer.get_vocab()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() == 2:
                parameter.normal_(0.0, 0.15, generator=generator)
        for layer in network.model.layers:
            for projection in (layer.self_attn.o_proj, layer.mlp.down_proj):
                projection.weight[:1] = 0.0  # what the first channel says stands to the end
        embedding, head = network.get_input_embeddings().weight, network.get_output_embeddings().weight
        embedding.normal_(0.0, 0.7, generator=generator)
        embedding[:, 0] = 4.0
        head.normal_(0.0, 0.2, generator=generator)
        # Roughly what the first channel is after the last norm: 4 over the root mean square.
        level = 4.0 / math.sqrt((16.0 + (width - 1) * 0.7**2) / width)
        for piece, i in vocabulary.items():
            head[i, 0] = math.log(_share(piece)) / level
    return network


def _share(piece: str) -> float:
    """About how often the piece is drawn, before the random weights have their say."""
    if piece == "</s>":
        return 0.09
    if piece in ("\n\n", "\n### "):
        return 0.02
    if piece.startswith("\n") and piece[1:-1].isdigit():
        return 0.05 / 16
    if piece in (".", ",", "?"):
        return 0.01
    if piece.startswith(" ") and piece[1:] in VERBS:
        return 0.5 / len(VERBS)
    if piece.startswith(" ") and piece[1:] in NOUNS:
        return 0.3 / len(NOUNS)
    return 1e-3 if piece.startswith(" ") and piece[1:] in OTHERS else 1e-6


@pytest.fixture
def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def instructed(tmp_path_factory: pytest.TempPathFactory, tiny_config: Config) -> Path:
    """A run up to the policy stage."""
    from refine_af.run import Run

    folder = tmp_path_factory.mktemp("runs") / "instructed"
    Run(tiny_config, folder).execute(until="instructions")
    return folder


@pytest.fixture
def any_set_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is near is a test of the demonstrations alone."""
    monkeypatch.setattr("refine_af.stages.pairs.has_encoder", lambda: False)
