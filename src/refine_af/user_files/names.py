"""Which column is which: names that differ from a known one in case or spelling, well-known aliases of it, and chats.

Nothing is lost without a word: what is read under another name is told, and so is what is not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache

from refine_af.errors import UsageError

# What others call it; read so where the reader knows the name and the row has no better one for it.
_ALIASES: dict[str, tuple[str, ...]] = {
    "instruction": ("prompt", "question", "query", "instructions"),
    "input": ("context", "inputs", "input text", "passage"),
    "output": ("response", "completion", "answer", "outputs", "target", "label", "output text", "expected output"),
    "references": ("reference", "answers", "targets", "labels"),
    "prediction": ("predictions", "output", "response", "completion", "answer", "generated text"),
    "id": ("uid", "example id", "question id"),
}
# Columns that nobody takes for a part of the task: they are not told of as unread.
_BESIDE = (
    "", "id", "uid", "uuid", "index", "idx", "name", "source", "origin", "url", "date", "lang", "language", "license",
    "split", "meta", "metadata", "model", "policy", "reward", "score", "scores", "components", "instruction id",
    "is classification", "category", "task", "type", "tags", "motivation app",
)  # fmt: skip
_JOINT = re.compile(r"[\W_]+")


@dataclass(frozen=True, slots=True)
class Wanted:
    """The columns that a reader knows: ``needed`` groups, of each of which a row must have one, and others ``also``.

    ``whole``: whether a row is all that there is of a task, so that columns that are not read must be told.
    """

    needed: tuple[tuple[str, ...], ...]
    also: tuple[str, ...] = ()
    whole: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        return (*(name for group in self.needed for name in group), *self.also)

    def rivals(self, name: str) -> tuple[str, ...]:
        """The names that stand for the same as ``name``, itself among them."""
        return next((group for group in self.needed if name in group), (name,))


@dataclass(frozen=True, slots=True)
class Found:
    """Which column is read as which name; what else there is; the groups of which there is none."""

    columns: dict[str, str] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)
    missing: list[tuple[str, ...]] = field(default_factory=list)

    @property
    def renamed(self) -> dict[str, str]:
        return {column: name for name, column in self.columns.items() if column != name}


def is_known(column: str, wanted: Wanted) -> bool:
    """Whether the column has a name that would be read."""
    spellings, aliases = _spelt(wanted)
    return (plain := _normal(column)) in spellings or plain in aliases


def find_columns(columns: Iterable[str], wanted: Wanted, where: str) -> Found:
    """Raises UsageError that begins with ``where`` for two columns that would be the same."""
    columns = list(columns)
    spellings, aliases = _spelt(wanted)
    found = Found({name: name for name in columns if name in wanted.names})
    others = []
    for column in columns:
        if (name := spellings.get(_normal(column))) is None:
            others.append(column)
        elif name != column:
            _take(found, name, column, where)
    known = set(found.columns)
    for column in others:
        meant = [n for n in aliases.get(_normal(column), ()) if known.isdisjoint(wanted.rivals(n))]
        if meant:
            _take(found, meant[0], column, where)
        elif _normal(column) not in _NOT_TOLD:
            found.unread.append(column)
    found.missing.extend(group for group in wanted.needed if not any(name in found.columns for name in group))
    return found


def _take(found: Found, name: str, column: str, where: str) -> None:
    if (other := found.columns.setdefault(name, column)) != column:
        raise UsageError(f"{where}: {other!r} and {column!r} would both be read as {name}; keep one of them")


def needs(missing: Sequence[tuple[str, ...]], columns: Iterable[str]) -> str:
    """What is missing, and what is there instead."""
    there = ", ".join(list(columns)[:12]) or "nothing"
    return f"no {' or '.join(name for group in missing[:1] for name in group)}; it has {there}"


@cache
def _spelt(wanted: Wanted) -> tuple[dict[str, str], dict[str, list[str]]]:
    """The names by how they are spelt without case and joints, and those that an alias may mean."""
    aliases: dict[str, list[str]] = {}
    for name in wanted.names:
        for alias in _ALIASES.get(name, ()):
            aliases.setdefault(_normal(alias), []).append(name)
    return {_normal(name): name for name in wanted.names}, aliases


def _normal(name: str) -> str:
    return _JOINT.sub("", name.casefold())


_NOT_TOLD = frozenset(map(_normal, _BESIDE))
