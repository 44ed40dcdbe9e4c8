"""An adapter out of a folder, whoever trained it: LoRA on linear layers, all of it, or refused.

Engines work on merged copies of layers. What an adapter changes beside their weights would be left out there, so it is
refused by name. Adapters of our own are written by :mod:`refine_af.lora`.
"""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refine_af.errors import RefineError, UsageError
from refine_af.weights import check_files

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

# What an adapter's settings may say: how a change of linear layers' weights was made, and what has no effect any more.
_KNOWN = {
    "alpha_pattern",
    "auto_mapping",
    "base_model_name_or_path",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "exclude_modules",
    "fan_in_fan_out",
    "inference_mode",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_alpha",
    "lora_dropout",
    "lora_ga_config",
    "megatron_core",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "r",
    "rank_pattern",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
    "use_dora",
    "use_rslora",
}
# First weights for which peft changes those of the base, too.
_INITS = ("pissa", "olora", "corda", "loftq", "lora_ga")
_MERGE = "merge it into its base with peft's `merge_and_unload`, save that, and give its folder"


def adapter_settings(folder: Path) -> dict[str, Any]:
    """What stands in the adapter's ``adapter_config.json``. Raises UsageError where that can't be read."""
    file = folder / "adapter_config.json"
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        settings = None
    if not isinstance(settings, dict):
        raise UsageError(f"{file} holds no settings of an adapter; save the adapter again with peft")
    return settings


def check_adapter(folder: Path) -> None:
    """Raises UsageError for an adapter that is more or other than LoRA on layers, or whose files are not all there.
    Fast: reads settings alone."""
    settings = adapter_settings(folder)
    kind = settings.get("peft_type")
    if kind != "LORA":
        raise UsageError(f"adapter {folder} is {kind}; only LoRA works{_cure(str(kind))}")
    uses = [key for key, value in sorted(settings.items()) if key not in _KNOWN and value and value != "none"]
    first = settings.get("init_lora_weights")
    if isinstance(first, str) and first.lower().startswith(_INITS):
        uses.append(f"init_lora_weights={first}")
    if uses:
        raise UsageError(f"adapter {folder} uses {', '.join(uses)}, which is not supported: {_MERGE}")
    for key in ("r", "lora_alpha"):
        value = settings.get(key, 1)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
            raise UsageError(
                f"adapter {folder}: {key} is {value!r}, and must be a number above 0; save or download it again"
            )
    if not any((folder / f"adapter_model.{ending}").is_file() for ending in ("safetensors", "bin")):
        raise UsageError(f"adapter {folder} has no adapter_model.safetensors; save or download it again")
    check_files(folder)


def _cure(kind: str) -> str:
    by_prompt = "PROMPT" in kind or "PREFIX" in kind or kind == "P_TUNING"
    return ", and this kind can't be merged: give a LoRA adapter or a model" if by_prompt else f": {_MERGE}"


def put_on(network: PreTrainedModel, folder: Path) -> PeftModel:
    """The network with the adapter on it, in place; ``unload`` takes it off. Raises UsageError where the adapter does
    not fit, in whole or in part, and RefineError where its weights are not finite."""
    from peft import LoraConfig, PeftModel

    check_adapter(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what we tell, or refuse
        try:
            settings = LoraConfig.from_pretrained(str(folder))
            settings.inference_mode = True
            adapted = PeftModel(network, settings)
        except (ValueError, AttributeError, TypeError, LookupError, re.error) as error:
            raise _misfit(folder, " ".join(str(error).split())[:200]) from None
        try:
            _fill(adapted, folder)
        except BaseException:
            adapted.unload()
            raise
    return adapted.eval()


def merged(network: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """The network with the adapter in its weights, in place. Raises what :func:`put_on` does, and UsageError for an
    output layer that shares its weights with the embeddings, which would change too."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    adapted = put_on(network, folder)
    output, embeddings = network.get_output_embeddings(), network.get_input_embeddings()
    if isinstance(output, BaseTunerLayer) and output.get_base_layer().weight is embeddings.weight:
        raise UsageError(
            f"adapter {folder} changes the output layer alone, which is one with the base's embeddings and can't be "
            "merged; set model.engine=transformers"
        )
    found: PreTrainedModel = adapted.merge_and_unload()
    return found


def _fill(adapted: PeftModel, folder: Path) -> None:
    _check_layers(adapted, folder)
    try:
        found = adapted.load_adapter(str(folder), "default")
    except RuntimeError as error:
        shapes = [line.strip() for line in str(error).splitlines() if "size mismatch" in line]
        raise _misfit(folder, (shapes or [str(error)])[0]) from None
    if found.missing_keys:
        raise _misfit(folder, f"it lacks {_first(found.missing_keys)}")
    if found.unexpected_keys:
        raise _misfit(folder, f"nothing there is called {_first(found.unexpected_keys)}")
    wrong = [n for n, p in adapted.named_parameters() if "lora_" in n and not p.isfinite().all()]
    if wrong:
        raise RefineError(f"adapter {folder}: NaN or infinite weights {_first(wrong)}; train or download it again")


def _check_layers(adapted: PeftModel, folder: Path) -> None:
    """Layers that aren't linear, such as embeddings, can be in ``target_modules`` too."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    for name, layer in adapted.named_modules():
        if isinstance(layer, BaseTunerLayer) and not isinstance(layer.get_base_layer(), (nn.Linear, Conv1D)):
            kind = type(layer.get_base_layer()).__name__
            short = name.rpartition(".")[2]
            raise UsageError(
                f"adapter {folder} changes {short}, which is no linear layer ({kind}); that is not supported: {_MERGE}"
            )


def _first(names: list[str]) -> str:
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{sorted(names)[0]}{more}"


def _misfit(folder: Path, problem: str) -> UsageError:
    base = adapter_settings(folder).get("base_model_name_or_path")
    return UsageError(f"adapter {folder} doesn't fit its base {base}: {problem}; check what it was trained on")
