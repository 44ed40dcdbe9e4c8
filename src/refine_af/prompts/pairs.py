"""How an input-output pair is asked for, written and read back.

A task without an input is answered directly, as a chat model would; one with an input is written as
``Input: …`` and ``Output: …``. Classification is written label first, so that labels are balanced.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from refine_af.prompts.dialect import Dialect, Frame
from refine_af.records import SeedTask

SYSTEM = "Give one good example for each task: an input, where the task needs one, and the correct output."
SYSTEM_LABEL_FIRST = "Give one good example for each task: a label as the output, then an input that has this label."

_MARKER = re.compile(r"^[ \t]*(Input|Output)[ \t]*:", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Pair:
    input: str
    output: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A completion that is no pair, and why."""

    reason: str


def written_pair(task: SeedTask) -> str:
    """The pair as a demonstration shows it and a completion is expected to be."""
    if not task.input:
        return task.output
    if task.is_classification:
        return f"Output: {task.output}\nInput: {task.input}"
    return f"Input: {task.input}\nOutput: {task.output}"


def pair_frame(dialect: Dialect, demonstrations: Sequence[SeedTask], *, label_first: bool) -> Frame:
    """The frame into which an instruction is put to ask for its pair."""
    turns = [(d.instruction, written_pair(d)) for d in demonstrations]
    return dialect.frame(system=SYSTEM_LABEL_FIRST if label_first else SYSTEM, turns=turns)


def parse_pair(text: str, *, ended: bool) -> Pair | Unreadable:
    """Reads a completion. A second pair after the first is left out; a first pair cut by length is unreadable."""
    markers = list(_MARKER.finditer(text))
    if not markers:
        if not ended:
            return Unreadable("cut by length")
        return Pair("", text.strip()) if text.strip() else Unreadable("empty")
    if text[: markers[0].start()].strip():
        return Unreadable("text before the pair")
    fields: dict[str, str] = {}
    for marker, following in zip(markers, [*markers[1:], None], strict=True):
        name = marker.group(1)
        if name in fields:
            if len(fields) < 2:
                return Unreadable(f"two {name.lower()}s")
            break  # a further pair begins
        if following is None and not ended:
            return Unreadable("cut by length")
        fields[name] = text[marker.end() : following.start() if following else len(text)].strip()
    if "Output" not in fields:
        return Unreadable("no output")
    return Pair(fields.get("Input", ""), fields["Output"])
