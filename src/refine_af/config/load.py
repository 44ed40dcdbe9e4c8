"""From a preset, a YAML file and ``key=value`` overrides to a checked config, and back to YAML."""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import ValidationError

from refine_af.config.options import Config
from refine_af.config.read_yaml import read_yaml
from refine_af.errors import UsageError

PRESETS = ("embedded", "paper-llama2-7b", "paper-llama2-13b", "paper-mistral-7b")

# Options of earlier versions that are no more, and what to do about them.
GONE = {
    "policy.value_clip_range": "delete it",
    "policy.unended_penalty": "delete it, or set policy.fault_penalty",
}

_SHORT = reprlib.Repr()  # what anchors nest in one another can be endless
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 2, 200, 200
_EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")


def load_config(
    file: Path | None = None,
    *,
    preset: str | None = None,
    seeds: str | None = None,
    overrides: Sequence[str] = (),
) -> Config:
    """The config of a preset or a YAML file, with a seeds file and ``key=value`` overrides (``policy.iterations=4``).

    Neither file nor preset given: the embedded preset. Raises UsageError that names the key, its place, and the
    nearest known name.
    """
    if file is not None and preset is not None:
        raise UsageError("--config and --preset exclude each other: put `preset: NAME` into the file instead")
    values = _read_yaml(file) if file is not None else {"preset": preset or "embedded"}
    where = str(file) if file is not None else "the preset"
    base = values.pop("preset", None)
    if base is not None:
        values = _merged(_preset_values(str(base)), values)
    if seeds is not None:
        values = _merged(values, {"seeds": {"path": seeds}})
    for override in overrides:
        values = _merged(values, _parsed_override(override))
        where = f"{where} with --set" if "--set" not in where else where
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise UsageError(_explained(error, where)) from None


def _preset_values(name: str) -> dict[str, Any]:
    if name not in PRESETS:
        raise UsageError(f"no preset {name!r}{nearest_name(name, PRESETS)}; there are: {', '.join(PRESETS)}")
    text = resources.files("refine_af").joinpath("presets").joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    values: dict[str, Any] = yaml.safe_load(text) or {}
    return values


def _read_yaml(file: Path) -> dict[str, Any]:
    text = ""
    try:
        text = file.read_text(encoding="utf-8")
        values = read_yaml(text)
    except FileNotFoundError:
        raise UsageError(f"config {file} is not there; `refine-af config init` writes one to start from") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"config {file} is not UTF-8 (byte {error.start}): save it as UTF-8") from None
    except OSError as error:
        raise UsageError(f"config {file} can't be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        lines = len(text.splitlines())  # what is missing at the end is missed a line behind it
        line = f", line {min(mark.line + 1, lines)}" if mark is not None else ""
        raise UsageError(f"config {file}{line} is not YAML: {_problem(error)}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UsageError(f"config {file} must be a mapping of options, not a {type(values).__name__}")
    return values


def _problem(error: yaml.YAMLError) -> str:
    return " ".join(str(getattr(error, "problem", None) or error).split())[:200]


def _parsed_override(text: str) -> dict[str, Any]:
    key, equals, raw = text.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"--set {text!r} must read key=value, for example policy.iterations=4")
    try:
        value: Any = read_yaml(raw)
    except yaml.YAMLError as error:
        if raw.lstrip().startswith(("{", "[")):
            raise UsageError(f"--set {text!r} is not YAML: {_problem(error)}") from None
        value = raw
    if _EXPONENT.fullmatch(raw.strip()):
        value = float(raw)  # YAML 1.1 reads 1e-4 as a string
    for part in reversed(key.strip().split(".")):
        value = {part: value}
    return dict(value)


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        result[key] = _merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result


def _explained(error: ValidationError, where: str) -> str:
    """The first mistake as one line: the key's full name, what was found, what may stand there."""
    first = error.errors()[0]
    key = ".".join(map(str, first["loc"]))
    # {a:1} is a key a:1 without a value in YAML.
    space = "; write a space after ':'" if first["input"] is None and ":" in str(first["loc"][-1:]) else ""
    if key in GONE:
        return f"option {key} in {where} was removed from refine-af: {GONE[key]}"
    if first["type"] == "extra_forbidden":
        parent, leaf = first["loc"][:-1], str(first["loc"][-1])
        known = _keys_at(parent)
        return f"unknown option {key!r} in {where}{space or nearest_name(leaf, known)}; known there: {', '.join(known)}"
    if first["type"] == "model_type" and isinstance(first["loc"][-1], str):
        inner, found = _keys_at(first["loc"])[0], _SHORT.repr(first["input"])
        return f"option {key} in {where} holds options of its own, such as {key}.{inner}; found {found}{space}"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] in ("dict_type", "model_type"):
        message = "must hold names and values, as in {name: value}"
    if first["type"] == "tuple_type":
        message = "must be a list, as in [one, two]"
    if first["type"] in ("too_short", "too_long"):
        message = message.replace("Tuple", "the list").replace(" after validation", "")
    if first["type"] == "string_type" and isinstance(first["input"], bool):
        message = "must be text; put yes, no, on and off in quotes"
    if not key:  # sections that don't go together
        return f"{where}: {message}"
    # Where the options of a section don't go together, the message says which.
    if first["type"] == "value_error" and isinstance(first["input"], dict):
        return f"option {key} in {where}: {message}{more}"
    return f"option {key} in {where}: {message}, found {_SHORT.repr(first['input'])}{space}{more}"


def _keys_at(path: tuple[int | str, ...]) -> list[str]:
    section: Any = Config
    for part in path:
        # A mapping of sections, as feedback.scorers is, has keys of the user's own.
        mapping = get_origin(section) is dict
        section = get_args(section)[1] if mapping else section.model_fields[str(part)].annotation
    return list(section.model_fields)


def nearest_name(word: str, known: Sequence[str]) -> str:
    """``, did you mean 'x'?`` for the known name that is most like the word; nothing where none is."""
    match = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f", did you mean {match[0]!r}?" if match else ""


def as_yaml(config: Config) -> str:
    """The whole config as YAML that `--config` reads back."""
    text: str = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    return text


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Lines such as ``policy.iterations: 8 -> 4`` for everything in which two dumped configs differ."""
    lines: list[str] = []
    for key in [*old, *(k for k in new if k not in old)]:
        a, b, name = old.get(key), new.get(key), f"{prefix}{key}"
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            lines += differences(a, b, f"{name}.")
        elif a != b:
            lines.append(f"{name}: {a!r} -> {b!r}")
    return lines


def shown_differences(lines: Sequence[str]) -> str:
    """The first five, and how many more there are, in one line."""
    return "; ".join(lines[:5]) + (f"; and {len(lines) - 5} more" if len(lines) > 5 else "")
