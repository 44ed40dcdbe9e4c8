"""What a model's ``config.json`` says. Where nothing can be made of it, that is one line, and code out of a model's
repository is not run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refine_af.errors import UsageError

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def json_settings(file: Path) -> dict[str, Any]:
    """A file of settings, which may be absent, as it is. Raises UsageError where it holds no JSON object."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UsageError(f"{file} holds no JSON object; download it again")
    return found


def model_settings(folder: Path) -> PretrainedConfig:
    """The settings of the model in ``folder``. Raises UsageError where transformers can't read them."""
    from transformers import AutoConfig

    with settings_explained(folder):
        found: PretrainedConfig = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    return found


@contextmanager
def settings_explained(folder: Path) -> Iterator[None]:
    """Turns what transformers raises, and not in one way, when it makes a model of the settings in ``folder``, into a
    UsageError."""
    from huggingface_hub.errors import StrictDataclassError

    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, StrictDataclassError) as error:
        raise UsageError(_told(folder / "config.json", error)) from None


def _told(file: Path, error: Exception) -> str:
    from transformers import CONFIG_MAPPING, __version__

    settings = json_settings(file)
    kind = settings.get("model_type")
    if kind is None:
        return f"{file} has no model_type, which says what the model is; download it again, or choose another model"
    if kind not in CONFIG_MAPPING:
        if "auto_map" in settings:
            return (
                f"{file}: a model of type {kind} needs code of its repository (trust_remote_code), which is never run "
                "here; choose another model"
            )
        return (
            f"{file}: transformers {__version__} doesn't know the type {kind}; upgrade transformers, or choose another "
            "model"
        )
    problem = " ".join(str(error).split())[:200] + (" is not known" if isinstance(error, KeyError) else "")
    return f"{file}: it makes no causal language model ({problem}); download it again, or choose another model"
