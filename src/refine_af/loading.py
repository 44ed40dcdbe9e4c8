"""Brings a model into memory: device, precision, tokenizer, weights, and a look at whether it does what it is for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from refine_af.config import ModelConfig
from refine_af.errors import RefineError, UsageError
from refine_af.model_settings import model_settings, settings_explained
from refine_af.models import LocatedModel, quiet_libraries
from refine_af.weights import load_weights

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def torch_device(config: ModelConfig) -> str:
    import torch

    if config.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if config.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("model.device is cuda, but torch sees no GPU; set it to cpu or auto")
    return config.device


def torch_dtype(config: ModelConfig) -> Any:
    """What torch computes in."""
    import torch

    if config.dtype in ("auto", "nf4"):
        return torch.bfloat16 if torch_device(config) == "cuda" else torch.float32
    return getattr(torch, config.dtype)


def load_tokenizer(located: LocatedModel, folder: Path | None = None) -> PreTrainedTokenizerBase:
    """Out of the model's folder, or another one."""
    from transformers import AutoTokenizer

    with quiet_libraries():
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder or located.folder)
        except Exception as error:  # the files are made by others, and the library of tokenizers knows no other kind
            if isinstance(error, MemoryError):
                raise
            model_settings(located.folder)  # which it reads too: a fault of theirs is told as theirs
            problem = " ".join(str(error).split())[:200] or type(error).__name__
            raise UsageError(
                f"the tokenizer of {located.label} can't be loaded ({problem}); download its files again"
            ) from None
    if tokenizer.eos_token_id is None:
        raise UsageError(f"the tokenizer of {located.label} has no eos_token; set one in its tokenizer_config.json")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(located: LocatedModel, config: ModelConfig) -> PreTrainedModel:
    """The causal model in evaluation mode, frozen."""
    from transformers import AutoModelForCausalLM, GenerationConfig

    in_four_bits = config.dtype == "nf4"
    settings = _four_bits(config) if in_four_bits else {}
    with quiet_libraries():
        try:
            _check_head(located)
            model = load_weights(
                AutoModelForCausalLM, located.label, located.folder, dtype=torch_dtype(config), **settings
            )
        except ValueError as error:
            # transformers then lists every architecture that it knows.
            problem = " ".join(str(error).split())[:120]
            raise UsageError(f"{located.label} is not a causal language model: {problem} …") from None
        except (LookupError, TypeError, AttributeError, ArithmeticError):
            with settings_explained(located.folder):
                raise
    # What its makers sample with is no part of the policy: our settings are the only ones.
    model.generation_config = GenerationConfig()
    if in_four_bits:
        _keep_trainable(model)
    else:
        model.to(torch_device(config))
    model.eval().requires_grad_(False)
    _check_forward(located.label, model)
    return model


def _check_forward(label: str, model: PreTrainedModel) -> None:
    """Raises RefineError where a few tokens show that the model's numbers are too large for its dtype, and UsageError
    where it can't read them, or looks at what comes after a token."""
    import torch

    common = 5
    tokens = torch.arange(8, device=model.device).repeat(2, 1)
    tokens[1, common:] = 0  # another end, which must not matter to what stands before
    with torch.no_grad(), quiet_libraries():
        try:
            logits = model(input_ids=tokens, use_cache=False).logits
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            problem = " ".join(str(error).split())[:120]
            raise UsageError(
                f"{label} can't read a text ({problem}): a {type(model).__name__} of these settings is not supported"
            ) from None
    if not logits.isfinite().all():
        dtype = str(model.dtype).removeprefix("torch.")
        raise RefineError(f"{label} computes numbers that are not finite in {dtype}; set model.dtype to float32")
    one, other = logits[:, :common].float()
    if (one - other).norm() > (1e-4 if logits.dtype == torch.float32 else 0.05) * one.norm():
        raise UsageError(
            f"{label}, a {type(model).__name__}, looks at what comes after a token, so it can't write; give a causal "
            "model (of BERT's kind: with is_decoder in its config.json)"
        )


def _check_head(located: LocatedModel) -> None:
    """A reward model whose embeddings are tied would load with them as its language model's head."""
    for architecture in model_settings(located.folder).architectures or ():
        if architecture.endswith(("Classification", "RewardModel", "QuestionAnswering", "Regression")):
            raise UsageError(
                f"{located.label} is a {architecture}, which has no language-model head to write with; give the causal "
                "model that it was made of"
            )


def _four_bits(config: ModelConfig) -> dict[str, Any]:
    """NF4 with its scales quantised too, as in QLoRA (Dettmers et al. 2023, arXiv 2305.14314, section 3)."""
    from transformers import BitsAndBytesConfig

    settings = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch_dtype(config),
    )
    return {"quantization_config": settings, "device_map": {"": torch_device(config)}}


def _keep_trainable(model: PreTrainedModel) -> None:
    """On some CPUs bitsandbytes repacks weights, at their first pass without gradients, for a kernel that has none: an
    adapter would then learn nothing, without a word."""
    from bitsandbytes.nn import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False
