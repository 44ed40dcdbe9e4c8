"""The adapter's settings as peft wants them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peft import LoraConfig
from torch import nn

from refine_af.config import LoraSettings
from refine_af.errors import UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def lora_config(network: PreTrainedModel, lora: LoraSettings, label: str) -> LoraConfig:
    """Raises UsageError for targets that the network, called ``label``, hasn't got."""
    output = network.get_output_embeddings()  # stays frozen: PPO never keeps its gradients
    linear = {n.rsplit(".", 1)[-1]: m for n, m in network.named_modules() if isinstance(m, nn.Linear)}
    names = {name for name, module in linear.items() if module is not output}
    unknown = [t for t in lora.targets if t not in names]  # peft minds only where none of them fits
    if unknown:
        raise UsageError(f"lora.targets {unknown}: no such layers in {label}; there are: {', '.join(sorted(names))}")
    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        target_modules=list(lora.targets),
        lora_dropout=0.0,
        task_type="CAUSAL_LM",
    )
