"""The sizes of models: a table of the ones the presets name, and config.json for local folders and cached
models."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from refine_af.config import FeedbackConfig
from refine_af.feedback.check import models_needed
from refine_af.planning import hub


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """A decoder's sizes: counts, not bytes. ``source`` says where they come from, in a few words."""

    name: str
    parameters: int
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    source: str
    gated: bool = False  # its owner asks for a licence to be accepted before the download
    skip_bin: bool = False  # the repository holds the weights twice, as safetensors and as .bin

    @property
    def small(self) -> bool:
        """Under a billion parameters: a CPU serves it."""
        return self.parameters < 1_000_000_000

    def kv_bytes_per_token(self, bytes_per_value: int) -> int:
        """Cache of one token of one sequence: keys and values of every layer."""
        return 2 * self.layers * self.kv_heads * self.head_dim * bytes_per_value

    def lora_parameters(self, rank: int, targets: tuple[str, ...]) -> int:
        """Both factors of each adapted layer: rank · (inputs + outputs), in every block."""
        return sum(rank * sum(self._shape(target)) for target in targets) * self.layers

    def _shape(self, target: str) -> tuple[int, int]:
        query, key = self.heads * self.head_dim, self.kv_heads * self.head_dim
        shapes = {
            "q_proj": (self.hidden, query),
            "k_proj": (self.hidden, key),
            "v_proj": (self.hidden, key),
            "o_proj": (query, self.hidden),
            "gate_proj": (self.hidden, self.intermediate),
            "up_proj": (self.hidden, self.intermediate),
            "down_proj": (self.intermediate, self.hidden),
            "query_key_value": (self.hidden, query + 2 * key),
        }
        return shapes.get(target, (self.hidden, self.hidden))


@dataclass(frozen=True, slots=True)
class RewardModel:
    """A model that a feedback rule calls. It reads a pair ``passes`` times with ``active`` of its parameters."""

    name: str
    parameters: int
    active: int
    passes: int
    role: str


# Sizes: config.json of HuggingFaceTB/SmolLM2-135M-Instruct, whose tied embeddings count once.
_SMOLLM2 = ModelFacts(
    "HuggingFaceTB/SmolLM2-135M-Instruct",
    134_515_008, 30, 576, 9, 3, 64, 1536, 49_152, "its config.json", skip_bin=True,
)  # fmt: skip
_KNOWN = {
    facts.name: facts
    for facts in (
        _SMOLLM2,
        # config.json of the repository; the count of parameters follows from it (the paper says 6.7B).
        ModelFacts(
            "meta-llama/Llama-2-7b-hf",
            6_738_415_616, 32, 4096, 32, 32, 128, 11_008, 32_000, "its config.json", True, True,
        ),
        # config.json of the repository; the Llama 2 paper says 13.0B.
        ModelFacts(
            "meta-llama/Llama-2-13b-hf",
            13_015_864_320, 40, 5120, 40, 40, 128, 13_824, 32_000, "its config.json", True, True,
        ),
        # config.json of the repository and table 1 of arXiv 2310.06825: 8 key-value heads for 32 heads.
        ModelFacts(
            "mistralai/Mistral-7B-v0.1",
            7_241_732_096, 32, 4096, 32, 8, 128, 14_336, 32_000, "its config.json", skip_bin=True,
        ),
    )
}  # fmt: skip

# Pythia's card, 1.4B: 24 layers of 2,048, 1,414,647,808 parameters with both embeddings, 1,208,602,624
# without (a reward head is smaller than the output embedding it replaces: the first is an upper bound).
OASST = RewardModel("OpenAssistant/oasst-rm-2.1-pythia-1.4b-epoch-2.5", 1_414_647_808, 1_208_602_624, 1, "Rew")
# A T5-large: 770 million parameters by the T5 paper (arXiv 1910.10683). It is asked three questions about a
# pair, which goes through the encoder: 24 layers of 4 · 1024² + 2 · 1024 · 4096. The decoder writes one token.
UNIEVAL = RewardModel("MingZhong/unieval-dialog", 770_000_000, 301_989_888, 3, "Nat, Und, Coh")


def reward_models(feedback: FeedbackConfig) -> tuple[RewardModel, ...]:
    """The models of known size that a reward needs beside the run's own, with as many passes as scorers ask them."""
    asked = [model.name for model in models_needed(feedback)]
    known = (replace(model, passes=asked.count(model.name)) for model in (OASST, UNIEVAL))
    return tuple(model for model in known if model.passes)


def short_name(name: str) -> str:
    """A reward model as a table shows it: oasst-rm, unieval-dialog."""
    last = name.rpartition("/")[2]
    return last if len(last) <= 20 else last.partition("-2.")[0]


def known_facts(name: str) -> ModelFacts | None:
    """The table's entry of a model, "embedded" included."""
    return _SMOLLM2 if name == "embedded" else _KNOWN.get(name)


def find_facts(name: str, revision: str | None = None) -> tuple[ModelFacts | None, str]:
    """A model's sizes, and where they aren't known a sentence that says how to make them known. Never
    downloads."""
    if name == "embedded":
        return _SMOLLM2, ""
    local = Path(os.path.expanduser(name))
    if local.is_dir():
        return _read_facts(name, local)
    if hub.looks_local(name):
        return None, f"There is no folder {name}: give a model's folder (with its config.json) or a Hub name."
    if name in _KNOWN:
        return _KNOWN[name], ""
    folder = hub.snapshot(name, revision)
    if folder is None:
        command = hub.download_command(name, revision).replace(name, f"{name} config.json")
        return None, (
            f"The sizes of {name} are not known: it is not in the Hugging Face cache and must be "
            "downloaded first. "
            f"Its sizes alone come with `{command}`; or give the folder of a copy as model.name."
        )
    return _read_facts(name, folder)


def _read_facts(name: str, folder: Path) -> tuple[ModelFacts | None, str]:
    file = folder / "config.json"
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        return facts_from_config(name, values, parameters=_stored_parameters(folder)), ""
    except OSError:
        return None, f"The sizes of {name} are not known: {file} is not there or can't be read."
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return None, (
            f"The sizes of {name} are not known: {file} lacks what a decoder's config holds ({error}); "
            "it needs hidden_size, num_hidden_layers, num_attention_heads and vocab_size."
        )


def facts_from_config(name: str, values: dict[str, Any], *, parameters: int | None = None) -> ModelFacts:
    """Sizes from a transformers config.json, with GPT-2's older names understood.

    Without ``parameters`` they are computed for a decoder with or without a gated MLP, biases left out
    (under 0.1 %).
    Raises KeyError where a size is missing.
    """
    values = {**values, **values.get("text_config", {})}  # multimodal models keep the decoder's sizes in it
    hidden = int(values["hidden_size"] if "hidden_size" in values else values["n_embd"])
    layers = int(values["num_hidden_layers"] if "num_hidden_layers" in values else values["n_layer"])
    heads = int(values["num_attention_heads"] if "num_attention_heads" in values else values["n_head"])
    kv_heads = int(values.get("num_key_value_heads") or heads)
    head_dim = int(values.get("head_dim") or hidden // heads)
    intermediate = int(values.get("intermediate_size") or values.get("n_inner") or 4 * hidden)
    vocabulary = int(values["vocab_size"])
    source = "its files' headers"
    if parameters is None:
        source = "computed from its config.json"
        plain = values.get("model_type") in {
            "gpt_neox",
            "gpt2",
            "gptj",
            "gpt_neo",
            "opt",
            "bloom",
            "falcon",
            "phi",
        }
        attention = hidden * head_dim * (2 * heads + 2 * kv_heads)
        block = attention + (2 if plain else 3) * hidden * intermediate + 2 * hidden
        tied = bool(values.get("tie_word_embeddings", values.get("model_type") == "gpt2"))
        parameters = layers * block + (1 if tied else 2) * vocabulary * hidden + hidden
    return ModelFacts(name, parameters, layers, hidden, heads, kv_heads, head_dim, intermediate, vocabulary, source)


def _stored_parameters(folder: Path) -> int | None:
    """The exact count from the headers of the safetensors files; None where a file is absent or not
    readable."""
    files = sorted(folder.glob("*.safetensors"))
    if not files or hub.missing_parts(folder):
        return None
    total = 0
    try:
        for file in files:
            with file.open("rb") as stream:
                # The format: 8 bytes of length, then a JSON object of tensors with their shapes.
                size = int.from_bytes(stream.read(8), "little")
                if size > 100_000_000:
                    return None
                header: dict[str, Any] = json.loads(stream.read(size))
            for tensor, entry in header.items():
                if tensor != "__metadata__":
                    elements = 1
                    for side in entry["shape"]:
                        elements *= int(side)
                    total += elements
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return total or None
