"""Reads a model's weights, all of them or none: what a file lacks is never made up by chance.

Looks into the files first, which is quick and needs no library; then into what transformers found in them.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from refine_af.errors import RefineError, UsageError

_POINTER = b"version https://git-lfs"
_WRAPPERS = {"_orig_mod.": "torch.compile", "module.": "DataParallel", "_fsdp_wrapped_module.": "FSDP"}


def weight_files(folder: Path) -> list[Path]:
    """The files out of which transformers would load the model in ``folder``; those of an index need not be there."""
    for whole in ("model.safetensors", "pytorch_model.bin"):
        if (folder / whole).is_file():
            return [folder / whole]
        index = folder / f"{whole}.index.json"
        if index.is_file():
            try:
                shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
            except (ValueError, KeyError, AttributeError, TypeError):
                raise UsageError(f"{index} names no files of weights; download it again") from None
            return [folder / name for name in sorted(shards)]
    return []


_BLOCKS, _BLOCK = 64, 4096  # of a file of weights, so many pieces of so many bytes are read


def fingerprint(folder: Path) -> str:
    """Of what a model computes: its settings, its tokenizer, and samples of its weights. A training changes nearly
    every one, so a few tell; the same files in another place, or of another day, have the same."""
    digest = hashlib.blake2b(digest_size=8)
    for name in ("config.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "chat_template.jinja"):
        if (folder / name).is_file():
            digest.update((folder / name).read_bytes())
    for file in weight_files(folder):
        if file.is_file():
            size = file.stat().st_size
            digest.update(str(size).encode())
            with file.open("rb") as opened:
                for number in range(_BLOCKS):
                    opened.seek(number * max(0, size - _BLOCK) // (_BLOCKS - 1))
                    digest.update(opened.read(_BLOCK))
    return digest.hexdigest()


def check_files(folder: Path) -> None:
    """Raises UsageError where a file of the model in ``folder``, or of the adapter, is a git-lfs pointer or was cut
    short. Fast: reads no weights. What is not there is left to who loads it."""
    others = ("adapter_model.safetensors", "adapter_model.bin", "tokenizer.json", "tokenizer.model")
    for file in [*weight_files(folder), *(folder / name for name in others)]:
        if not file.is_file():
            continue
        with file.open("rb") as opened:
            first = opened.read(len(_POINTER))
        if first == _POINTER:
            raise UsageError(
                f"{file} is a git-lfs pointer, not the file that it stands for; get that by `git lfs pull`"
            )
        if not _is_whole(file, first):
            raise UsageError(f"{file} is incomplete or damaged; download it again")


def _is_whole(file: Path, first: bytes) -> bool:
    if file.suffix == ".safetensors":
        return _is_whole_safetensors(file)
    # Pickles by torch are archives, which end with a list of what is in them; very old ones are not.
    return zipfile.is_zipfile(file) if first.startswith(b"PK") else bool(first)


def _is_whole_safetensors(file: Path) -> bool:
    """The format: the length of a header in 8 bytes, the header in JSON, which says where tensors end, the tensors."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if not 0 < length <= size - 8:
            return False
        try:
            header = json.loads(opened.read(length))
            ends = [one["data_offsets"][1] for name, one in header.items() if name != "__metadata__"]
        except (ValueError, LookupError, AttributeError, TypeError):
            return False
    return size == 8 + length + max(ends, default=0)


def load_weights(kind: Any, name: str, folder: Path, *, unused: tuple[str, ...] = (), **settings: Any) -> Any:
    """The model of class ``kind`` in ``folder`` (safetensors or pickled weights, in shards or not; pickles are read
    as tensors alone). No code out of the folder is run.

    Raises UsageError where files of weights are not there, and where they lack any of the model's weights or hold them
    in another shape; those whose names start with one of ``unused`` may be absent. Raises RefineError for weights that
    are not finite. Lets through the ValueError by which transformers says that the model is of another kind.
    """
    files = weight_files(folder)
    absent = [file.name for file in files if not file.is_file()]
    if absent:
        raise UsageError(f"{_some(absent)} of {name} are not in {folder}; {_source(name)}")
    try:
        # Other shapes than the model's are let in, to be told in our words.
        model, info = kind.from_pretrained(
            folder, output_loading_info=True, trust_remote_code=False, ignore_mismatched_sizes=True, **settings
        )
    except (OSError, ImportError) as error:
        if not files:
            raise UsageError(f"the weights of {name} are not in {folder}; {_source(name)}") from None
        raise UsageError(f"{name} can't be loaded: {_in_one_line(error)}") from None
    _check_all_fit(name, model, info, unused)
    _check_finite(name, model)
    return model


def _source(name: str) -> str:
    on_hub = name.count("/") == 1
    return f"get them with `hf download {name}`" if on_hub else "get them from where the folder came"


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _check_all_fit(name: str, model: Any, info: dict[str, Any], unused: tuple[str, ...]) -> None:
    missing = sorted(key for key in info["missing_keys"] if not key.startswith(unused))
    beyond = sorted(info["unexpected_keys"])
    if missing:
        prefix = _prefix(missing, beyond)
        if prefix is not None:
            by = f" by {_WRAPPERS[prefix]}" if prefix in _WRAPPERS else ""
            raise UsageError(
                f"the weights of {name} are named {prefix}{missing[0]} and so on, as if wrapped{by}; "
                f"save it again without {prefix!r}, from the model inside"
            )
        raise UsageError(f"{name} lacks the weights {_some(missing)}; download or save it again")
    for key, found, expected in sorted(info["mismatched_keys"]):
        raise UsageError(
            f"{key} of {name} has the shape {tuple(found)}, but its config.json asks for {tuple(expected)}; "
            "get both from the same model"
        )
    left_out = [key for key in beyond if _belongs(key, model)]
    if left_out:
        raise UsageError(
            f"{name} has the weights {_some(left_out)}, which its config.json leaves out; get both from the same model"
        )


def _prefix(missing: list[str], beyond: list[str]) -> str | None:
    """What stands before the names of all that are missing, where the file has them under other names."""
    prefixes = {key.removesuffix(missing[0]) for key in beyond if key.endswith(f".{missing[0]}")}
    known = set(beyond)
    return next((one for one in sorted(prefixes) if all(one + key in known for key in missing)), None)


def _belongs(key: str, model: Any) -> bool:
    """Whether a weight that the model has no place for would be a part of one of its layers, or of one layer more."""
    modules = dict(model.named_modules())
    owner, _, leaf = key.rpartition(".")
    if leaf not in ("weight", "bias"):
        return False
    if owner in modules:
        return any(True for _ in modules[owner].parameters(recurse=False))
    parts = key.split(".")
    number = next((i for i, part in enumerate(parts) if part.isdigit()), 0)
    return ".".join([*parts[:number], "0"]) in modules and ".".join(parts[: number + 1]) not in modules


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _check_finite(name: str, model: Any) -> None:
    import torch

    checked = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    weights = [(key, one.detach()) for key, one in model.named_parameters() if one.dtype in checked]
    # A sum takes a fifth of the time, and is finite only where all are.
    sums = [(key, one, one.sum(dtype=torch.float32 if one.element_size() < 4 else None)) for key, one in weights]
    wrong = [key for key, one, total in sums if not total.isfinite() and not one.isfinite().all()]
    if wrong:
        raise RefineError(f"{name} has weights that are not finite numbers: {_some(wrong)}; train or download it again")


def check_embeddings(name: str, model: Any, tokens: Iterable[int]) -> None:
    """Raises UsageError where ``tokens``, the ids of a tokenizer, go beyond the model's embeddings."""
    count, rows = max(tokens, default=0) + 1, model.get_input_embeddings().weight.shape[0]
    if count > rows:
        raise UsageError(
            f"the tokenizer of {name} has {count} tokens, but the model has embeddings of {rows}; "
            "take the tokenizer that it was trained with, or resize its embeddings (`resize_token_embeddings`)"
        )
