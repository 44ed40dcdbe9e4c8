"""What the report shows, read from the run's database into dataclasses; the queries of the report are here, in arms.py,
in contributions.py and in samples.py.

A table without rows gives None or an empty list, so that an unfinished run's report can say what is missing.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from refine_af.report.arms import Arms, collect_arms
from refine_af.report.contributions import Contributions, contributions
from refine_af.report.samples import Sample, collect_samples
from refine_af.store import Store

Both = tuple[float | None, float | None]  # before and after

_POLICIES = ("tuned", "initial")


@dataclass(frozen=True, slots=True)
class Stage:
    """A row of the stages table; the counts are None until the stage is done."""

    name: str
    status: str
    read: int | None
    kept: int | None
    rejected: int | None
    failed: int | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Funnel:
    """``read`` is ``kept`` plus every drop. ``selected``: None where the stage selects nothing."""

    name: str
    read: int
    drops: list[tuple[str, int]]
    kept: int
    selected: int | None


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean difference with its 95 % interval."""

    before: float | None
    after: float | None
    difference: float | None
    low: float | None
    high: float | None

    @property
    def verdict(self) -> int | None:
        """1 above zero, -1 below, 0 where the interval contains zero; None where there is no interval."""
        if self.low is None or self.high is None:
            return None
        return 1 if self.low > 0 else -1 if self.high < 0 else 0


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The reward before and after the policy was tuned, what of it answers get behind their own tasks alone, what the
    witness found, the share that could be read and its mean reward, both before and after, and the completions' rewards
    paired by position."""

    interval: Interval
    fit: Interval
    witness: Interval
    readable: Both
    readable_reward: Both
    pairs: list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Task:
    """A held-out task with the answers of both models; a model that has not answered yet leaves None."""

    id: str
    instruction: str
    input: str
    reference: str
    base: str | None
    tuned: str | None
    base_rouge_l: float | None
    tuned_rouge_l: float | None

    @property
    def difference(self) -> float | None:
        if self.base_rouge_l is None or self.tuned_rouge_l is None:
            return None
        return self.tuned_rouge_l - self.base_rouge_l


@dataclass(frozen=True, slots=True)
class Evaluation:
    rouge_l: Interval
    content: Interval  # nats a token of the references
    margin: Interval  # nats
    exact_match: tuple[float | None, float | None]
    outcomes: tuple[int, int, int] | None  # wins, ties, losses
    tasks: list[Task]  # the largest gain first


@dataclass(frozen=True, slots=True)
class Event:
    at: float
    stage: str
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Report:
    config: dict[str, Any] | None
    versions: dict[str, str]
    created_at: float | None
    stages: list[Stage]
    instructions: Funnel | None
    instances: list[Funnel]
    unattributed: int  # rejected pairs whose policy is not recorded
    seeds: tuple[int, int]  # shown to the generator, held out
    held_out: HeldOut | None
    contributions: Contributions | None
    curves: dict[str, list[tuple[int, float]]]  # of the policy, by metric
    loss: list[tuple[int, float]]  # of the fine-tuning
    rounds: dict[str, list[tuple[int, float]]]  # of the instructions: read, kept
    texts: list[str]  # the kept instructions
    evaluation: Evaluation | None
    arms: Arms | None
    samples: list[Sample]
    events: list[Event]


def collect(store: Store) -> Report:
    """Everything at one moment, also while a run is writing."""
    with _snapshot(store):
        run = next(iter(store.query("SELECT config, versions, created_at FROM runs")), None)
        stages = _stages(store)
        texts = [
            r["text"]
            for r in store.query(
                "SELECT text FROM instructions WHERE origin = 'generated' AND status = 'kept' ORDER BY rowid"
            )
        ]
        policy = _metrics(store, "policy")
        instances, unattributed = _instance_funnels(store)
        return Report(
            config=None if run is None else json.loads(run["config"]),
            versions={} if run is None else json.loads(run["versions"]),
            created_at=None if run is None else run["created_at"],
            stages=stages,
            instructions=_instruction_funnel(store, stages, len(texts)),
            instances=instances,
            unattributed=unattributed,
            seeds=_seeds(store),
            held_out=_held_out(store, policy),
            contributions=contributions(store),
            curves={name: points for name, points in policy.items() if not name.startswith("held_out_")},
            loss=store.metric("finetune", "loss"),
            rounds=_metrics(store, "instructions"),
            texts=texts,
            evaluation=_evaluation(store),
            arms=collect_arms(store),
            samples=collect_samples(store),
            events=[Event(**dict(r)) for r in store.query("SELECT at, stage, kind, text FROM events ORDER BY id")],
        )


@contextmanager
def _snapshot(store: Store) -> Iterator[None]:
    """A read transaction, so that counts agree with each other while a run adds rows."""
    try:
        store.query("BEGIN")
    except sqlite3.OperationalError:  # the caller is in a transaction, which is a snapshot already
        yield
        return
    try:
        yield
    finally:
        store.query("COMMIT")


def _stages(store: Store) -> list[Stage]:
    rows = store.query(
        "SELECT name, status, read, kept, rejected, failed, finished_at - started_at AS seconds FROM stages "
        "ORDER BY started_at, name"
    )
    return [Stage(**dict(r)) for r in rows]


def _metrics(store: Store, stage: str) -> dict[str, list[tuple[int, float]]]:
    names = store.query("SELECT DISTINCT name FROM metrics WHERE stage = ? ORDER BY name", stage)
    return {r["name"]: store.metric(stage, r["name"]) for r in names}


def _seeds(store: Store) -> tuple[int, int]:
    sql = "SELECT COUNT(*) FROM instructions WHERE origin = 'seed' AND status = ?"
    return store.scalar(sql, "kept"), store.scalar(sql, "held_out")


def _instruction_funnel(store: Store, stages: Sequence[Stage], kept: int) -> Funnel | None:
    """By the rejections' rows; what the stage counted beyond them (failed ones) is a reason of its own."""
    drops = list(store.rejection_reasons("instructions").items())
    stage = next((s for s in stages if s.name == "instructions" and s.status == "done"), None)
    if stage is not None and stage.failed:
        drops.append(("failed", stage.failed))
    read = kept + sum(n for _, n in drops)
    return Funnel("instructions", read, drops, kept, None) if read else None


def _instance_funnels(store: Store) -> tuple[list[Funnel], int]:
    """One funnel for each policy that wrote pairs, and the number of rejections that name no policy."""
    rows = store.query("SELECT reason, detail, COUNT(*) n FROM rejections WHERE stage = 'instances' GROUP BY 1, 2")
    drops: dict[str, dict[str, int]] = {policy: {} for policy in (*_POLICIES, "")}
    for row in rows:
        of_policy = drops[next((p for p in _POLICIES if row["detail"].startswith(p)), "")]
        of_policy[row["reason"]] = of_policy.get(row["reason"], 0) + row["n"]
    funnels = []
    for policy in _POLICIES:
        counted = store.query("SELECT COUNT(*) n, SUM(selected) s FROM instances WHERE policy = ?", policy)[0]
        reasons = sorted(drops[policy].items(), key=lambda item: (-item[1], item[0]))
        read = counted["n"] + sum(drops[policy].values())
        if read:
            funnels.append(Funnel(policy, read, reasons, counted["n"], counted["s"] or 0))
    return funnels, sum(drops[""].values())


def _interval(values: dict[str, float], before: str, after: str, difference: str) -> Interval:
    names = (before, after, difference, f"{difference}_low", f"{difference}_high")
    return Interval(*map(values.get, names))


def _held_out(store: Store, policy: dict[str, list[tuple[int, float]]]) -> HeldOut | None:
    values = {name: value for name, points in policy.items() for step, value in points if step == 0}
    interval, fit, witness = (
        _interval(values, *(f"{prefix}{which}" for which in ("before", "after", "difference")))
        for prefix in ("held_out_", "held_out_fit_", "held_out_witness_")
    )
    pairs = store.query(
        "SELECT b.reward AS before, a.reward AS after "
        "FROM rollouts b JOIN rollouts a ON a.position = b.position "
        "WHERE b.split = 'before' AND a.split = 'after' AND b.sound AND a.sound "
        "ORDER BY b.position, b.iteration, a.iteration"
    )
    if interval.before is None and not pairs:
        return None
    readable, readable_reward = (
        (values.get(f"{name}_before"), values.get(f"{name}_after"))
        for name in ("held_out_readable", "held_out_readable_reward")
    )
    return HeldOut(interval, fit, witness, readable, readable_reward, [(r["before"], r["after"]) for r in pairs])


def _evaluation(store: Store) -> Evaluation | None:
    rows = store.query("SELECT name, value FROM metrics WHERE stage = 'evaluate' AND step = 0")
    values = {r["name"]: r["value"] for r in rows}
    tasks = _tasks(store)
    if not values and not tasks:
        return None
    counts = [values.get(name) for name in ("wins", "ties", "losses")]
    wins, ties, losses = (None if n is None else int(n) for n in counts)
    return Evaluation(
        rouge_l=_interval(values, "base_rouge_l", "tuned_rouge_l", "difference"),
        content=_interval(values, "base_content", "tuned_content", "content_difference"),
        margin=_interval(values, "base_margin", "tuned_margin", "margin_difference"),
        exact_match=(values.get("base_exact_match"), values.get("tuned_exact_match")),
        outcomes=None if wins is None or ties is None or losses is None else (wins, ties, losses),
        tasks=tasks,
    )


def _tasks(store: Store) -> list[Task]:
    rows = store.query(
        "SELECT i.id, i.text AS instruction, COALESCE(s.input, '') AS input, "
        "COALESCE(s.output, '') AS reference, "
        "b.prediction AS base, t.prediction AS tuned, b.rouge_l AS base_rouge_l, t.rouge_l AS tuned_rouge_l "
        "FROM (SELECT DISTINCT task_id FROM predictions) p JOIN instructions i ON i.id = p.task_id "
        "LEFT JOIN predictions b ON b.task_id = p.task_id AND b.model = 'base' "
        "LEFT JOIN predictions t ON t.task_id = p.task_id AND t.model = 'tuned' "
        "LEFT JOIN instances s ON s.rowid = (SELECT MIN(rowid) FROM instances "
        "WHERE instruction_id = p.task_id AND policy = 'seed')"
    )
    tasks = [Task(**dict(r)) for r in rows]
    return sorted(tasks, key=lambda t: (t.difference is None, -(t.difference or 0.0), t.id))
