"""Tiny random models of many architectures, each with a tokenizer of single letters; made from settings, without
downloads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

SPECIAL = ["<pad>", "<s>", "</s>"]
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ012345678"
END = 2
SIZES: dict[str, Any] = {
    "vocab_size": len(SPECIAL) + len(LETTERS),
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": END,
}
WINDOW = 12  # less than the longest rows that are tried
_WINDOWED = ["sliding_attention", "full_attention"]
_LINEAR: dict[str, Any] = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
    "linear_key_head_dim": 4,
    "linear_value_head_dim": 4,
    "layer_types": ["linear_attention", "full_attention"],
}
_EXPERTS: dict[str, Any] = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8}
_ROUTED: dict[str, Any] = {
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 8,
    "first_k_dense_replace": 1,
}
_LATENT: dict[str, Any] = {
    "kv_lora_rank": 8,
    "q_lora_rank": 8,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 4,
    "v_head_dim": 4,
    "num_key_value_heads": 4,
}
_MAMBA2: dict[str, Any] = {"mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 4, "mamba_n_groups": 1}

# By the name that config.json calls it, what differs from SIZES; None takes a size away.
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": WINDOW},
    "ministral": {"sliding_window": WINDOW},
    "mixtral": {"num_local_experts": 4},
    "qwen2": {},
    "qwen2_moe": {**_EXPERTS, "shared_expert_intermediate_size": 8},
    "qwen3": {},
    "qwen3_moe": _EXPERTS,
    "qwen3_next": {**_EXPERTS, **_LINEAR, "shared_expert_intermediate_size": 8},
    "qwen3_5_text": _LINEAR,
    "gemma": {},
    "gemma2": {"sliding_window": WINDOW, "final_logit_softcapping": 2.0},
    "gemma3_text": {"sliding_window": WINDOW, "layer_types": _WINDOWED},
    "gemma3n_text": {
        "vocab_size_per_layer_input": 64,
        "hidden_size_per_layer_input": 8,
        "num_kv_shared_layers": 0,
        "sliding_window": WINDOW,
        "layer_types": _WINDOWED,
        "laurel_rank": 4,
        "altup_num_inputs": 2,
        "activation_sparsity_pattern": [0.0, 0.0],
    },
    "phi": {},
    "phi3": {"sliding_window": WINDOW},
    "phimoe": {"num_local_experts": 4, "sliding_window": None},
    "gpt2": {},
    "gpt_neo": {"num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]], "window_size": WINDOW},
    "gpt_neox": {},
    "gptj": {"rotary_dim": 4},
    "gpt_bigcode": {},
    "gpt_oss": {"sliding_window": WINDOW, "num_local_experts": 4, "num_experts_per_tok": 2},
    "codegen": {"rotary_dim": 4},
    "opt": {"ffn_dim": 24, "word_embed_proj_dim": 16},
    "bloom": {},
    "falcon": {"head_dim": None},
    "mpt": {},
    "stablelm": {},
    "olmo": {},
    "olmo2": {},
    "olmo3": {"sliding_window": WINDOW, "layer_types": _WINDOWED},
    "olmoe": _EXPERTS,
    "cohere": {"logit_scale": 0.25},
    "cohere2": {"sliding_window": WINDOW, "layer_types": _WINDOWED},
    "granite": {"logits_scaling": 8.0, "embedding_multiplier": 2.0, "residual_multiplier": 0.5},
    "granitemoe": {"num_local_experts": 4},
    "granitemoehybrid": {**_MAMBA2, "layer_types": ["mamba", "attention"], "num_local_experts": 4},
    "starcoder2": {"sliding_window": WINDOW},
    "smollm3": {},
    "glm": {},
    "glm4": {},
    "glm4_moe": _ROUTED,
    "nemotron": {},
    "nemotron_h": {
        "mamba_num_heads": 4,
        "mamba_head_dim": 8,
        "ssm_state_size": 4,
        "n_groups": 1,
        "layers_block_type": ["mamba", "attention"],
    },
    "exaone4": {"sliding_window": WINDOW, "layer_types": _WINDOWED},
    "ernie4_5": {},
    "seed_oss": {},
    "helium": {},
    "apertus": {},
    "deepseek_v2": {**_ROUTED, **_LATENT, "topk_method": "greedy"},
    "deepseek_v3": {**_ROUTED, **_LATENT, "n_group": 1, "topk_group": 1},
    "llama4_text": {
        "num_local_experts": 4,
        "intermediate_size_mlp": 24,
        "attention_chunk_size": WINDOW,
        "layer_types": ["chunked_attention", "full_attention"],
        "no_rope_layers": [1, 0],
        "moe_layers": [1],
    },
    "mamba": {"state_size": 4},
    "mamba2": {"num_heads": 4, "head_dim": 8, "state_size": 4, "n_groups": 1, "chunk_size": 8},
    "falcon_mamba": {"state_size": 4},
    "falcon_h1": {**_MAMBA2, "mamba_d_ssm": 32, "mamba_chunk_size": 8},
    "rwkv": {"attention_hidden_size": 16},
    "recurrent_gemma": {
        "lru_width": 16,
        "attention_window_size": WINDOW,
        "block_types": ("recurrent", "attention"),
    },
    "jamba": {
        "mamba_d_state": 4,
        "mamba_dt_rank": 4,
        "num_experts": 4,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "use_mamba_kernels": False,
    },
    "bamba": {**_MAMBA2, "attn_layer_indices": [1], "mamba_chunk_size": 8},
    "zamba2": {
        "layers_block_type": ["mamba", "hybrid"],
        "layer_types": ["mamba", "hybrid"],
        "mamba_d_state": 4,
        "n_mamba_heads": 4,
        "mamba_headdim": 8,
        "mamba_ngroups": 1,
        "num_mem_blocks": 1,
        "chunk_size": 8,
        "adapter_rank": 4,
    },
    "lfm2": {"layer_types": ["conv", "full_attention"], "block_auto_adjust_ff_dim": False},
    "minimax": {"layer_types": ["linear_attention", "full_attention"], "block_size": 8, "num_local_experts": 4},
    "kimi_linear": {
        **_LATENT,
        **_EXPERTS,
        "n_routed_experts": 4,
        "linear_head_dim": 4,
        "linear_num_heads": 4,
        "layer_types": ["linear_attention", "full_attention"],
        "mlp_layer_types": ["dense", "sparse"],
    },
    "xlstm": {"hidden_size": 128, "num_heads": 2, "chunk_size": 8},
    "bert": {"is_decoder": True},
    "bert (encoder)": {"model_type": "bert"},
    "xlnet": {
        "d_model": 16,
        "n_layer": 2,
        "n_head": 4,
        "d_head": 4,
        "d_inner": 24,
        **dict.fromkeys(["hidden_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings"]),
    },
    "openai-gpt": {},
    "ctrl": {"dff": 24},
}


def save_tiny(name: str, folder: Path) -> None:
    """Writes a model of that architecture with random weights, and the tokenizer, into ``folder``."""
    settings = {key: value for key, value in {**SIZES, **ARCHITECTURES[name]}.items() if value is not None}
    torch.manual_seed(0)
    network = AutoModelForCausalLM.from_config(AutoConfig.for_model(settings.pop("model_type", name), **settings))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for one in network.parameters():
            one.normal_(0, 0.3, generator=generator)  # as it is made, it would write the same token again and again
    network.save_pretrained(folder)
    letters().save_pretrained(folder)


def letters() -> Any:
    tokenizer = Tokenizer(models.WordLevel({one: i for i, one in enumerate([*SPECIAL, *LETTERS])}, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(SPECIAL)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<pad>", bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
