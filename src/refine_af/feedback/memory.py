"""Remembers scores in a database, keyed by the example and by all that a scorer's values depend on: nothing is scored
twice, in a run that goes on or in a file that is scored again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from refine_af.feedback.base import Example, Scorer, checked_scores
from refine_af.records import content_id
from refine_af.store import Store


class Remembered:
    """A scorer that asks the database first. What it is and promises is the inner scorer's."""

    def __init__(self, scorer: Scorer, identity: str, store: Store) -> None:
        self.name = scorer.name
        self.low, self.high = scorer.low, scorer.high
        self.better, self.cost = scorer.better, scorer.cost
        self.identity: str | None = identity
        self._scorer = scorer
        self._store = store

    def score(self, examples: Sequence[Example]) -> list[float]:
        """Each example that is new is scored once, however often it stands among ``examples``.

        The new ones are scored in one call and kept in one transaction, whatever their number: a value may depend on
        its batch by rounding, so after a kill either all of a batch are known or none, and the batch is the same.
        """
        scorer = content_id(self._scorer.name, self.identity or "")
        keys = [content_id(e.instruction, e.input, e.output) for e in examples]
        known = _known(self._store, scorer, list(dict.fromkeys(keys)))
        new = {key: example for key, example in zip(keys, examples, strict=True) if key not in known}
        if new:
            values = checked_scores(self._scorer, list(new.values()))
            made = dict(zip(new, values, strict=True))
            _keep(self._store, scorer, made)
            known |= made
        return [known[key] for key in keys]


def remembered(scorer: Scorer, store: Store) -> Scorer:
    """The scorer with a memory; as it is where it doesn't promise equal values for equal examples (no identity)."""
    if scorer.identity is None or isinstance(scorer, Remembered):
        return scorer
    return Remembered(scorer, scorer.identity, store)


def _known(store: Store, scorer: str, examples: Sequence[str]) -> dict[str, float]:
    """Example to value, of those that have one; both are hashes."""
    found: dict[str, float] = {}
    for start in range(0, len(examples), 500):  # SQLite takes 999 parameters in its oldest builds
        keys = examples[start : start + 500]
        places = ", ".join("?" * len(keys))
        sql = f"SELECT example, value FROM known_scores WHERE scorer = ? AND example IN ({places})"
        found |= {r["example"]: r["value"] for r in store.query(sql, scorer, *keys)}
    return found


def _keep(store: Store, scorer: str, values: Mapping[str, float]) -> None:
    """All or none of them. A value that another process kept meanwhile stands."""
    store.many(
        "INSERT OR IGNORE INTO known_scores (scorer, example, value) VALUES (?, ?, ?)",
        [(scorer, example, value) for example, value in values.items()],
    )
