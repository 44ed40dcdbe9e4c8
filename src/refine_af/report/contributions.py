"""What each component adds to the mean reward: before and after training, over all pairs and over the selected ones."""

from __future__ import annotations

from dataclasses import dataclass

from refine_af.store import Store


@dataclass(frozen=True, slots=True)
class Contributions:
    """Groups of completions or pairs as (name, how many, mean reward), and for each component its mean share in the
    reward of each group; None in a group whose reward it was no part of."""

    groups: list[tuple[str, int, float]]
    shares: dict[str, list[float | None]]


def contributions(store: Store) -> Contributions | None:
    """None where no share is known: nothing has been scored, or an older version scored it."""
    found = [*_held_out(store), *_pairs(store)]
    if not found:
        return None
    names = list(dict.fromkeys(name for _, _, _, shares in found for name in shares))
    return Contributions(
        groups=[(group, count, reward) for group, count, reward, _ in found],
        shares={name: [shares.get(name) for _, _, _, shares in found] for name in names},
    )


_Group = tuple[str, int, float, dict[str, float]]


def _held_out(store: Store) -> list[_Group]:
    groups = []
    for split in ("before", "after"):
        prefix = f"held_out_{split}/"
        sql = "SELECT name, value FROM metrics WHERE stage = 'policy' AND step = 0 AND name LIKE ? ORDER BY name"
        shares = {r["name"].removeprefix(prefix): r["value"] for r in store.query(sql, f"{prefix}%")}
        row = store.query("SELECT COUNT(*) n, AVG(reward) mean FROM rollouts WHERE split = ?", split)[0]
        if shares and row["n"]:
            groups.append((f"held-out, {split}", row["n"], row["mean"], shares))
    return groups


def _pairs(store: Store) -> list[_Group]:
    conditions = {
        "initial policy": "i.policy = 'initial'",
        "tuned policy": "i.policy = 'tuned'",
        "selected": "i.selected = 1",
    }
    groups = []
    for group, condition in conditions.items():
        row = store.query(f"SELECT COUNT(*) n, AVG(reward) mean FROM instances i WHERE {condition}")[0]
        sums = store.query(
            "SELECT s.scorer, SUM(s.share) total FROM scores s JOIN instances i ON i.id = s.instance_id "
            f"WHERE {condition} GROUP BY s.scorer HAVING total IS NOT NULL ORDER BY s.scorer"
        )
        if sums and row["mean"] is not None:
            shares = {r["scorer"]: r["total"] / row["n"] for r in sums}
            groups.append((group, row["n"], row["mean"], shares))
    return groups
