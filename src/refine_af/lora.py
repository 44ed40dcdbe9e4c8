"""Adapters: their settings as peft wants them, and their files, the same in every process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from refine_af.config import LoraSettings
from refine_af.errors import UsageError
from refine_af.models import check_targets

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def lora_config(lora: LoraSettings) -> LoraConfig:
    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        target_modules=list(lora.targets),
        lora_dropout=0.0,
        task_type="CAUSAL_LM",
    )


def adaptable_layers(network: PreTrainedModel) -> set[str]:
    """The names of the linear layers, without the output layer: it stays frozen, and PPO never keeps its gradients.
    Routers that are written as linear layers give more than a product, and names that other layers have too would mean
    these as well."""
    output = network.get_output_embeddings()
    linear: set[str] = set()
    others: set[str] = set()
    for path, module in network.named_modules():
        is_linear = isinstance(module, (nn.Linear, Conv1D)) and module is not output and not is_router(module)
        (linear if is_linear else others).add(path.rpartition(".")[2])
    return linear - others


def is_router(layer: nn.Module) -> bool:
    """Whether a layer chooses among experts; some are written as linear layers, and give more than a product."""
    return type(layer).__name__.endswith("Router")


def bare_network(folder: Path) -> PreTrainedModel:
    """The network of a model that is not loaded: its layers without their weights, in a second or less."""
    with torch.device("meta"):
        settings = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        return AutoModelForCausalLM.from_config(settings, trust_remote_code=False)


def check_layers(section: str, lora: LoraSettings, network: PreTrainedModel, name: str) -> None:
    """Raises UsageError where a layer that ``section`` names is not there, or is one that peft puts no adapter on. The
    network is as it was afterwards."""
    check_targets(section, lora.targets, adaptable_layers(network), name)
    try:
        get_peft_model(network, lora_config(lora)).unload()
    except ValueError as error:  # Mamba's output layers, of which the weights are read and the layers never called
        problem = " ".join(str(error).split())[:200]
        raise UsageError(f"{section}.targets don't fit {name}: {problem}") from None


def save_adapter(model: PeftModel, folder: Path) -> None:
    """Writes the adapter's weights and settings; peft alone would write the layers' names in the order of a set."""
    # Not asking whether embeddings changed: peft would look for the base model on the Hub.
    model.save_pretrained(str(folder), save_embedding_layers=False, selected_adapters=["default"])
    file = folder / "adapter_config.json"
    values = json.loads(file.read_text(encoding="utf-8"))
    values["target_modules"] = sorted(values["target_modules"])
    file.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def take_off(network: PreTrainedModel, trainer: Any) -> None:
    """Leaves the network as it was before a trainer of TRL put an adapter on it: also without the forward pass that
    TRL puts before the network's own (from version 1.15 on), with which a copy of it would compute something else."""
    trainer.model.unload()
    vars(network).pop("forward", None)
    if trainer.args.gradient_checkpointing:
        network.gradient_checkpointing_disable()
        network.disable_input_require_grads()
    network.eval().requires_grad_(False)
