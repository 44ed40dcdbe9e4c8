"""Where a model lies on this machine: a local folder, or the Hugging Face cache, read as files without any
library."""

from __future__ import annotations

import json
import os
from pathlib import Path


def cache_folder() -> Path:
    """The Hugging Face cache, by the variables that huggingface_hub reads, in its order."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(variable):
            return Path(os.path.expanduser(os.environ[variable]))
    if os.environ.get("HF_HOME"):
        return Path(os.path.expanduser(os.environ["HF_HOME"])) / "hub"
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.path.expanduser(base)) / "huggingface" / "hub"


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids downloads."""
    return os.environ.get("HF_HUB_OFFLINE", "").strip().upper() in {"1", "ON", "YES", "TRUE"}


def looks_local(name: str) -> bool:
    """Whether a model's name can only be a path: a Hub name has one slash, and not in front."""
    return name.startswith((".", "/", "~")) or name.count("/") != 1 or "\\" in name


def snapshot(name: str, revision: str | None = None) -> Path | None:
    """The folder of a cached Hub model at a revision ("main" without one), or None where there is none."""
    folder = cache_folder() / ("models--" + name.replace("/", "--"))
    wanted = revision or "main"
    try:
        commit = (folder / "refs" / wanted).read_text(encoding="utf-8").strip()
    except OSError:
        commit = wanted
    found = folder / "snapshots" / commit
    return found if found.is_dir() else None


def missing_parts(folder: Path) -> list[str]:
    """What a model's folder lacks to be loaded: config.json, weights, or shards that its index names."""
    missing = [] if (folder / "config.json").exists() else ["config.json"]
    for index in (folder / "model.safetensors.index.json", folder / "pytorch_model.bin.index.json"):
        if index.exists():
            shards = _shards(index)
            absent = [shard for shard in shards if not (folder / shard).exists()]
            if absent:
                missing.append(f"{len(absent)} of {len(shards)} weight files")
            return missing
    # A cache's files are links: exists() is false for one whose content was never completed.
    weights = [file for suffix in ("*.safetensors", "*.bin") for file in folder.glob(suffix) if file.exists()]
    if not weights:
        missing.append("weights (*.safetensors)")
    return missing


def _shards(index: Path) -> list[str]:
    try:
        names = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
    except (OSError, ValueError, KeyError, AttributeError):
        return [f"(those of the unreadable {index.name})"]
    return sorted({str(name) for name in names})


def download_command(name: str, revision: str | None = None, *, skip_bin: bool = False) -> str:
    """The command that fetches a model. ``skip_bin`` leaves out a second copy of the weights in the older
    format."""
    command = f"hf download {name}"
    if revision:
        command += f" --revision {revision}"
    return command + (' --exclude "*.bin"' if skip_bin else "")
