"""Adapters: their settings as peft wants them, and their files, the same in every process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft import LoraConfig, PeftModel
from torch import nn

from refine_af.config import LoraSettings
from refine_af.errors import UsageError

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


def check_targets(network: PreTrainedModel, lora: LoraSettings, label: str) -> None:
    """Raises UsageError for layers of the policy's adapter that the network, called ``label``, hasn't got."""
    output = network.get_output_embeddings()  # stays frozen: PPO never keeps its gradients
    linear = {n.rsplit(".", 1)[-1]: m for n, m in network.named_modules() if isinstance(m, nn.Linear)}
    names = {name for name, module in linear.items() if module is not output}
    unknown = [t for t in lora.targets if t not in names]  # peft minds only where none of them fits
    if unknown:
        raise UsageError(f"lora.targets {unknown}: no such layers in {label}; there are: {', '.join(sorted(names))}")


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
