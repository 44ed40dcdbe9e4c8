"""Adapters: their settings as peft wants them, and their files, the same in every process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from refine_af.config import LoraSettings
from refine_af.errors import UsageError
from refine_af.model_settings import model_settings, settings_explained
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


def linear_layers(network: PreTrainedModel) -> dict[str, nn.Module]:
    """By their full names, as they are below any adapter on them; without the output layer, which stays frozen, so that
    PPO never keeps its gradients, and without routers that are written as linear layers."""
    output = network.get_output_embeddings()
    return {
        name: module
        for name, module in _below_adapters(network)
        if isinstance(module, (nn.Linear, Conv1D)) and module is not output and not is_router(module)
    }


def adaptable_layers(network: PreTrainedModel) -> set[str]:
    """The names of the linear layers by which adapters are asked for. A name that another layer has too would mean that
    as well."""
    linear = linear_layers(network)
    others = {name.rpartition(".")[2] for name, _ in _below_adapters(network) if name not in linear}
    return {name.rpartition(".")[2] for name in linear} - others


def _below_adapters(network: PreTrainedModel) -> Iterator[tuple[str, nn.Module]]:
    """The network's modules by their full names, as if there were no adapters on it."""
    adapted: list[str] = []
    for name, module in network.named_modules():
        if isinstance(module, BaseTunerLayer):
            adapted.append(f"{name}.")
            yield name, module.get_base_layer()
        elif not name.startswith(tuple(adapted)):
            yield name, module


def is_router(layer: nn.Module) -> bool:
    """Whether a layer chooses among experts; some are written as linear layers, and give more than a product."""
    return type(layer).__name__.endswith("Router")


def bare_network(folder: Path) -> PreTrainedModel:
    """The network of a model that is not loaded: its layers without their weights, in a second or less. Raises
    UsageError where its settings are none."""
    settings = model_settings(folder)
    with torch.device("meta"), settings_explained(folder):
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


@contextmanager
def untouched(network: nn.Module, *, adapter: bool = False) -> Iterator[None]:
    """While it lasts, the network is in evaluation mode, and any adapter on it is off, or with ``adapter`` as it is."""
    layers = [] if adapter else [m for m in network.modules() if isinstance(m, BaseTunerLayer)]
    training = network.training
    network.eval()
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)
        network.train(training)


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
