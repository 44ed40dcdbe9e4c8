"""Texts of a run that the report shows: pairs of the data set, others, and what was rejected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import TypeVar

from refine_af.store import Store

SAMPLES = 20
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Sample:
    """A text of the run: an instance with its scores, or a rejected text with the reason."""

    kind: str  # selected, not selected, rejected
    origin: str  # the policy, or the stage for a rejection
    instruction: str
    input: str
    output: str
    reward: float | None
    scores: list[tuple[str, float]]
    reason: str = ""
    detail: str = ""


def collect_samples(store: Store) -> list[Sample]:
    """8 selected pairs, 6 not selected, 6 rejected texts; a group with too few leaves its places to others.

    Pairs are taken at equal distances of their rank by reward, rejections in turn from every reason.
    """
    sql = "SELECT id FROM instances WHERE policy <> 'seed' AND selected = ? ORDER BY reward IS NULL, reward DESC, id"
    selected, others = ([r["id"] for r in store.query(sql, flag)] for flag in (True, False))
    rejected = _rejections_in_turn(store)
    sizes = [len(selected), len(others), len(rejected)]
    places = [min(size, wanted) for size, wanted in zip(sizes, (8, 6, 6), strict=True)]
    for group, size in enumerate(sizes):
        places[group] += min(size - places[group], SAMPLES - sum(places))
    return [
        *(_pair(store, key, "selected") for key in spread(selected, places[0])),
        *(_pair(store, key, "not selected") for key in spread(others, places[1])),
        *(_rejection(store, key) for key in rejected[: places[2]]),
    ]


def _rejections_in_turn(store: Store) -> list[int]:
    """Ids: one of each reason, then the next of each, spread over the time in which they were written."""
    groups: dict[tuple[str, str], list[int]] = {}
    for row in store.query(
        "SELECT id, stage, reason FROM rejections WHERE TRIM(text) <> '' ORDER BY stage, reason, id"
    ):
        groups.setdefault((row["stage"], row["reason"]), []).append(row["id"])
    columns = [spread(ids, SAMPLES) for ids in groups.values()]
    return [key for key in chain.from_iterable(zip_longest(*columns)) if key is not None]


def _pair(store: Store, key: str, kind: str) -> Sample:
    row = store.query(
        "SELECT n.text, s.input, s.output, s.policy, s.reward FROM instances s "
        "JOIN instructions n ON n.id = s.instruction_id WHERE s.id = ?",
        key,
    )[0]
    texts = (row["text"], row["input"], row["output"])
    return Sample(kind, row["policy"], *texts, row["reward"], list(store.scores(key).items()))


def _rejection(store: Store, key: int) -> Sample:
    row = store.query("SELECT stage, reason, text, detail FROM rejections WHERE id = ?", key)[0]
    return Sample("rejected", row["stage"], "", "", row["text"], None, [], row["reason"], row["detail"])


def spread(items: Sequence[T], count: int) -> list[T]:
    """``count`` items at equal distances, the first and the last among them."""
    if count >= len(items):
        return list(items)
    if count <= 1:
        return [items[len(items) // 2]][:count]
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]
