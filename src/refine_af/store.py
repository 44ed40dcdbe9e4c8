"""The run's database: one SQLite file (WAL) that every stage reads rows from and adds rows to.

A unit of work (a round, a batch, an iteration) is one transaction together with the stage's cursor, so that a
process killed at any moment leaves whole units behind and the next one goes on after the last of them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from typing import Any

from refine_af.database import Database
from refine_af.errors import RefineError
from refine_af.migrations import missing
from refine_af.records import Instance, Instruction, Prediction, Rejection, Rollout, StageCounts

TURNS = 2  # in which a pair with an input is written; older runs wrote it in one


class Store(Database):
    """The rows of a run, and of what scores pairs."""

    # -- the run and its stages ------------------------------------------------------------------------

    def has_schema(self) -> bool:
        return bool(self.scalar("SELECT COUNT(*) FROM sqlite_master WHERE name = 'runs'"))

    def is_outdated(self) -> bool:
        """Whether an older version made it, and changes of the schema are still to be made."""
        return self.has_schema() and bool(missing(self._db))

    def save_run(self, config: dict[str, Any], versions: dict[str, str]) -> None:
        with self.transaction():
            self._db.execute(
                "INSERT INTO runs (id, config, versions, created_at, turns) VALUES (1, ?, ?, ?, ?)",
                (json.dumps(config, sort_keys=True), json.dumps(versions, sort_keys=True), time.time(), TURNS),
            )

    def writes_pairs_as_now(self) -> bool:
        """Whether the run's pairs are written in two turns; those of older runs are one completion each."""
        columns = {row["name"] for row in self.query("PRAGMA table_info(runs)")}
        return "turns" in columns and bool(self.scalar("SELECT turns FROM runs WHERE id = 1") == TURNS)

    def write_pairs_as_now(self) -> None:
        """For a run that has written none yet."""
        self.many("UPDATE runs SET turns = ? WHERE id = 1", [(TURNS,)])

    def change_config(self, config: dict[str, Any], what: str) -> None:
        """For options that may change while a run goes on; kept as an event."""
        with self.transaction():
            self._db.execute("UPDATE runs SET config = ? WHERE id = 1", (json.dumps(config, sort_keys=True),))
            self.add_event("run", "config", what)

    def run_config(self) -> dict[str, Any] | None:
        """The config that the run was started with; None for a new database."""
        text = self.scalar("SELECT config FROM runs WHERE id = 1")
        return None if text is None else json.loads(text)

    def run_versions(self) -> dict[str, str]:
        """Of the packages that the run was started with, and of its model, where it was noted."""
        found: dict[str, str] = json.loads(self.scalar("SELECT versions FROM runs WHERE id = 1") or "{}")
        return found

    def stage_done(self, stage: str) -> bool:
        return self.scalar("SELECT status FROM stages WHERE name = ?", stage) == "done"

    def stage_begun(self, stage: str) -> bool:
        return bool(self.query("SELECT 1 FROM stages WHERE name = ?", stage))

    def start_stage(self, stage: str) -> None:
        with self.transaction():
            self._db.execute(
                "INSERT INTO stages (name, status, cursor, started_at) VALUES (?, 'running', '{}', ?) "
                "ON CONFLICT (name) DO NOTHING",
                (stage, time.time()),
            )

    def cursor(self, stage: str) -> dict[str, Any]:
        """Where the stage is: what it saved with its last whole unit of work, {} before the first."""
        text = self.scalar("SELECT cursor FROM stages WHERE name = ?", stage)
        return {} if text is None else json.loads(text)

    def save_cursor(self, stage: str, **cursor: Any) -> None:
        with self.transaction():
            self._db.execute("UPDATE stages SET cursor = ? WHERE name = ?", (json.dumps(cursor, sort_keys=True), stage))

    def finish_stage(self, stage: str, counts: StageCounts) -> None:
        """Marks the stage done. Raises RefineError when rows went missing on the way."""
        if not counts.balanced:
            raise RefineError(f"stage {stage} lost rows: {counts}; please report this with the run's folder")
        with self.transaction():
            self._db.execute(
                "UPDATE stages SET status = 'done', finished_at = ?, read = ?, kept = ?, rejected = ?, failed = ? "
                "WHERE name = ?",
                (time.time(), counts.read, counts.kept, counts.rejected, counts.failed, stage),
            )

    # -- adding rows -----------------------------------------------------------------------------------

    def add_instructions(self, rows: Iterable[Instruction]) -> None:
        self.many(
            "INSERT INTO instructions (id, text, is_classification, needs_input, origin, round, model, prompt_ids, "
            "nearest_id, nearest_rouge_l, status) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (r.id, r.text, r.is_classification, r.needs_input, r.origin, r.round, r.model,
                 json.dumps(r.prompt_ids), r.nearest_id, r.nearest_rouge_l, r.status)
                for r in rows
            ],
        )  # fmt: skip

    def add_instances(self, rows: Iterable[Instance]) -> None:
        self.many(
            "INSERT INTO instances (id, instruction_id, input, output, model, policy, reward, selected, sound) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (r.id, r.instruction_id, r.input, r.output, r.model, r.policy, r.reward, r.selected, r.sound)
                for r in rows
            ],
        )

    def select_instances(self, ids: Iterable[str]) -> None:
        self.many("UPDATE instances SET selected = 1 WHERE id = ?", [(i,) for i in ids])

    def delete_instances(self, ids: Iterable[str]) -> None:
        """For rows that a later rule rejects; the caller adds the rejection in the same transaction."""
        keys = [(i,) for i in ids]
        with self.transaction():
            self.many("DELETE FROM scores WHERE instance_id = ?", keys)
            self.many("DELETE FROM instances WHERE id = ?", keys)

    def add_rejections(self, rows: Iterable[Rejection]) -> None:
        self.many(
            "INSERT INTO rejections (stage, reason, text, detail) VALUES (?, ?, ?, ?)",
            [(r.stage, r.reason, r.text, r.detail) for r in rows],
        )

    def add_scores(self, rows: Iterable[tuple[str, str, float, float]]) -> None:
        """Rows of (instance id, scorer, value, share in the reward)."""
        self.many("INSERT OR REPLACE INTO scores (instance_id, scorer, value, share) VALUES (?, ?, ?, ?)", rows)

    def add_rollouts(self, rows: Iterable[Rollout]) -> None:
        self.many(
            "INSERT INTO rollouts (split, iteration, position, instruction_id, input, text, fault, tokens, ended, "
            "reward, sound) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    r.split,
                    r.iteration,
                    r.position,
                    r.instruction_id,
                    r.input,
                    r.text,
                    r.fault,
                    r.tokens,
                    r.ended,
                    r.reward,
                    r.sound,
                )
                for r in rows
            ],
        )

    def add_predictions(self, rows: Iterable[Prediction]) -> None:
        self.many(
            "INSERT INTO predictions (model, task_id, prediction, rouge_l, exact_match) VALUES (?, ?, ?, ?, ?)",
            [(r.model, r.task_id, r.prediction, r.rouge_l, r.exact_match) for r in rows],
        )

    def add_metrics(self, stage: str, step: int, values: dict[str, float]) -> None:
        self.many(
            "INSERT OR REPLACE INTO metrics (stage, step, name, value) VALUES (?, ?, ?, ?)",
            [(stage, step, name, float(value)) for name, value in values.items()],
        )

    def add_event(self, stage: str, kind: str, text: str) -> None:
        """Something worth telling the user later. Events carry times, so they differ between equal runs."""
        self.many(
            "INSERT INTO events (at, stage, kind, text) VALUES (?, ?, ?, ?)",
            [(time.time(), stage, kind, text)],
        )

    # -- feedback --------------------------------------------------------------------------------------

    def calibrations(self) -> dict[str, tuple[float, float]]:
        """Component to (mean, spread) over the seeds' pairs, as the reward was first made with."""
        return {
            r["component"]: (r["mean"], r["spread"])
            for r in self.query("SELECT component, mean, spread FROM calibrations ORDER BY rowid")
        }

    def keep_calibrations(self, values: Mapping[str, tuple[float, float]]) -> None:
        self.many(
            "INSERT INTO calibrations (component, mean, spread) VALUES (?, ?, ?)",
            [(component, mean, spread) for component, (mean, spread) in values.items()],
        )

    def keep_unjudged(self, rows: Iterable[tuple[str, str]], error: str) -> None:
        """Completions (instruction id, text) that a scorer failed on, until they are judged."""
        with self.transaction():
            self.clear_unjudged()
            self.many(
                "INSERT INTO unjudged (instruction_id, text, error) VALUES (?, ?, ?)",
                [(instruction_id, text, error) for instruction_id, text in rows],
            )

    def clear_unjudged(self) -> None:
        self.many("DELETE FROM unjudged", [()])

    # -- reading rows ----------------------------------------------------------------------------------

    def instructions(self, *, origin: str | None = None, status: str | None = None) -> list[Instruction]:
        """In the order in which they were added."""
        rows = self.query(
            "SELECT * FROM instructions WHERE (?1 IS NULL OR origin = ?1) AND (?2 IS NULL OR status = ?2) "
            "ORDER BY rowid",
            origin,
            status,
        )
        return [
            Instruction(
                id=r["id"],
                text=r["text"],
                is_classification=None if r["is_classification"] is None else bool(r["is_classification"]),
                needs_input=None if r["needs_input"] is None else bool(r["needs_input"]),
                origin=r["origin"],
                round=r["round"],
                model=r["model"],
                prompt_ids=tuple(json.loads(r["prompt_ids"])),
                nearest_id=r["nearest_id"],
                nearest_rouge_l=r["nearest_rouge_l"],
                status=r["status"],
            )
            for r in rows
        ]

    def instances(self, *, policy: str | None = None, selected: bool | None = None) -> list[Instance]:
        """In the order in which they were added."""
        rows = self.query(
            "SELECT * FROM instances WHERE (?1 IS NULL OR policy = ?1) AND (?2 IS NULL OR selected = ?2) "
            "ORDER BY rowid",
            policy,
            selected,
        )
        return [
            Instance(
                id=r["id"],
                instruction_id=r["instruction_id"],
                input=r["input"],
                output=r["output"],
                model=r["model"],
                policy=r["policy"],
                reward=r["reward"],
                selected=bool(r["selected"]),
                sound=bool(r["sound"]),
            )
            for r in rows
        ]

    def has_instance(self, id: str) -> bool:
        return bool(self.query("SELECT 1 FROM instances WHERE id = ?", id))

    def scores(self, instance_id: str) -> dict[str, float]:
        """Scorer name to value, of one instance."""
        return {
            r["scorer"]: r["value"]
            for r in self.query("SELECT scorer, value FROM scores WHERE instance_id = ? ORDER BY scorer", instance_id)
        }

    def rejection_reasons(self, stage: str) -> dict[str, int]:
        """Reason to count, the most common first."""
        return {
            r["reason"]: r["n"]
            for r in self.query(
                "SELECT reason, COUNT(*) n FROM rejections WHERE stage = ? GROUP BY reason ORDER BY n DESC, reason",
                stage,
            )
        }

    def rejected(self, stage: str) -> int:
        """How many texts the stage rejected so far."""
        return int(self.scalar("SELECT COUNT(*) FROM rejections WHERE stage = ?", stage))

    def metric(self, stage: str, name: str) -> list[tuple[int, float]]:
        """(step, value) of one metric, in the order of its steps."""
        return [
            (r["step"], r["value"])
            for r in self.query(
                "SELECT step, value FROM metrics WHERE stage = ? AND name = ? ORDER BY step", stage, name
            )
        ]
