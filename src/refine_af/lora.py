"""Adapters: their settings as peft wants them, and their files, the same in every process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import LoraConfig, PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from refine_af.config import LoraSettings

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
    """By their full names, as they are below any adapter on them; without the output layer: it stays frozen, and PPO
    never keeps its gradients."""
    output = network.get_output_embeddings()
    found: dict[str, nn.Module] = {}
    adapted: set[str] = set()
    for name, module in network.named_modules():
        if isinstance(module, BaseTunerLayer):
            adapted.add(name)
            module = module.get_base_layer()
        elif any(name.startswith(f"{one}.") for one in adapted):
            continue
        if isinstance(module, (nn.Linear, Conv1D)) and module is not output:
            found[name] = module
    return found


def adaptable_layers(network: PreTrainedModel) -> set[str]:
    """The names of the linear layers by which adapters are asked for."""
    return {name.rsplit(".", 1)[-1] for name in linear_layers(network)}


def layers_there(folder: Path) -> set[str]:
    """The names of the layers that may get adapters, of a model that is not loaded: its layers are made without their
    weights, in a second or less."""
    with torch.device("meta"):
        settings = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        return adaptable_layers(AutoModelForCausalLM.from_config(settings, trust_remote_code=False))


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
