"""The tokens that end what a model writes. A tokenizer names one; chat models often end their turn with another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refine_af.model_settings import json_settings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_MARK = "THEANSWER"  # stands for an assistant's message while the template is rendered; in letters that none escapes
_FILES = ("generation_config.json", "config.json")


@dataclass(frozen=True, slots=True)
class Ends:
    """Token ids. ``all``: each of them ends an answer; in ascending order. ``closing``: the one of them that an answer
    is given where we write one."""

    closing: int
    all: tuple[int, ...]


def find_ends(folder: Path, tokenizer: PreTrainedTokenizerBase) -> Ends:
    """Of the model in ``folder``: what its tokenizer, its files and its chat template end an answer with."""
    named = {token for name in _FILES for token in _named(folder / name)}
    # The defaults of an architecture, which a training from scratch leaves in its config, may be the ids of words.
    found = named.intersection(tokenizer.added_tokens_decoder) | {tokenizer.eos_token_id}
    closing = _closes_a_turn(tokenizer)
    if closing is None:
        closing = tokenizer.eos_token_id
    return Ends(closing, tuple(sorted(found | {closing})))


def _named(file: Path) -> set[int]:
    """What ``eos_token_id`` is in a file of settings, also in those of the language part of a larger model."""
    fields = json_settings(file)
    found: set[int] = set()
    for part in (fields, fields.get("text_config") or {}):
        value: Any = part.get("eos_token_id")
        found.update(value if isinstance(value, list) else [] if value is None else [value])
    return found


def _closes_a_turn(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The special token that the chat template writes behind an assistant's message; None where it writes none, or
    where there is no template that takes two messages."""
    if not tokenizer.chat_template:
        return None
    from jinja2 import TemplateError

    messages = [{"role": "user", "content": "A task."}, {"role": "assistant", "content": _MARK}]
    try:
        text: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=False)
    except (TemplateError, ValueError, TypeError):
        return None
    if _MARK not in text:
        return None
    behind = text.rpartition(_MARK)[2].lstrip()
    special = {token.content: id for id, token in tokenizer.added_tokens_decoder.items()}
    longest = max((content for content in special if behind.startswith(content)), key=len, default=None)
    return None if longest is None else special[longest]
