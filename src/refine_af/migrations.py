"""The database's schema as an ordered list of changes; the ones applied are remembered in the database."""

from __future__ import annotations

import sqlite3

_INITIAL = """
CREATE TABLE runs (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    config TEXT NOT NULL,               -- JSON, as resolved when the run was started
    versions TEXT NOT NULL,             -- JSON: package to version
    created_at REAL NOT NULL
);
CREATE TABLE stages (
    name TEXT PRIMARY KEY,
    status TEXT NOT NULL CHECK (status IN ('running', 'done')),
    cursor TEXT NOT NULL,               -- JSON: where the stage goes on
    read INTEGER, kept INTEGER, rejected INTEGER, failed INTEGER,
    started_at REAL, finished_at REAL
);
CREATE TABLE instructions (
    id TEXT PRIMARY KEY,
    text TEXT NOT NULL,
    is_classification INTEGER,
    origin TEXT NOT NULL CHECK (origin IN ('seed', 'generated')),
    round INTEGER NOT NULL,
    model TEXT NOT NULL,
    prompt_ids TEXT NOT NULL,           -- JSON list of the demonstrations' ids
    nearest_id TEXT,
    nearest_rouge_l REAL,
    status TEXT NOT NULL CHECK (status IN ('kept', 'held_out'))
);
CREATE TABLE instances (
    id TEXT PRIMARY KEY,
    instruction_id TEXT NOT NULL REFERENCES instructions (id),
    input TEXT NOT NULL,
    output TEXT NOT NULL,
    model TEXT NOT NULL,
    policy TEXT NOT NULL CHECK (policy IN ('seed', 'initial', 'tuned')),
    reward REAL,
    selected INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX instances_by_instruction ON instances (instruction_id);
CREATE TABLE scores (
    instance_id TEXT NOT NULL REFERENCES instances (id),
    scorer TEXT NOT NULL,
    value REAL NOT NULL,
    PRIMARY KEY (instance_id, scorer)
);
CREATE TABLE rejections (
    id INTEGER PRIMARY KEY,
    stage TEXT NOT NULL,
    reason TEXT NOT NULL,
    text TEXT NOT NULL,
    detail TEXT NOT NULL
);
CREATE INDEX rejections_by_reason ON rejections (stage, reason);
CREATE TABLE rollouts (
    split TEXT NOT NULL CHECK (split IN ('train', 'before', 'after')),
    iteration INTEGER NOT NULL,
    position INTEGER NOT NULL,
    instruction_id TEXT NOT NULL REFERENCES instructions (id),
    text TEXT NOT NULL,
    tokens INTEGER NOT NULL,
    ended INTEGER NOT NULL,
    reward REAL NOT NULL,
    PRIMARY KEY (split, iteration, position)
);
CREATE TABLE predictions (
    model TEXT NOT NULL CHECK (model IN ('base', 'tuned')),
    task_id TEXT NOT NULL REFERENCES instructions (id),
    prediction TEXT NOT NULL,
    rouge_l REAL NOT NULL,
    exact_match REAL NOT NULL,
    PRIMARY KEY (model, task_id)
);
CREATE TABLE metrics (
    stage TEXT NOT NULL,
    step INTEGER NOT NULL,
    name TEXT NOT NULL,
    value REAL NOT NULL,
    PRIMARY KEY (stage, step, name)
);
CREATE TABLE events (
    id INTEGER PRIMARY KEY,
    at REAL NOT NULL,
    stage TEXT NOT NULL,
    kind TEXT NOT NULL,
    text TEXT NOT NULL
);
"""

_FEEDBACK = """
ALTER TABLE scores ADD COLUMN share REAL;       -- what the component added to the reward
CREATE TABLE calibrations (
    component TEXT PRIMARY KEY,
    mean REAL NOT NULL,
    spread REAL NOT NULL
);
CREATE TABLE known_scores (
    scorer TEXT NOT NULL,               -- hash of its name and of all that its values depend on
    example TEXT NOT NULL,              -- hash of instruction, input and output
    value REAL NOT NULL,
    PRIMARY KEY (scorer, example)
);
CREATE TABLE unjudged (
    instruction_id TEXT NOT NULL REFERENCES instructions (id),
    text TEXT NOT NULL,                 -- the completion
    error TEXT NOT NULL
);
"""

_EXPERIMENT = """
CREATE TABLE instances_with_arms (
    id TEXT PRIMARY KEY,
    instruction_id TEXT NOT NULL REFERENCES instructions (id),
    input TEXT NOT NULL,
    output TEXT NOT NULL,
    model TEXT NOT NULL,
    policy TEXT NOT NULL CHECK (policy IN ('seed', 'initial', 'tuned', 'best_of_n')),
    reward REAL,
    selected INTEGER NOT NULL DEFAULT 0
);
INSERT INTO instances_with_arms (rowid, id, instruction_id, input, output, model, policy, reward, selected)
    SELECT rowid, id, instruction_id, input, output, model, policy, reward, selected FROM instances ORDER BY rowid;
DROP TABLE instances;                   -- SQLite can't change a CHECK
ALTER TABLE instances_with_arms RENAME TO instances;
CREATE INDEX instances_by_instruction ON instances (instruction_id);
CREATE TABLE arm_rows (
    arm TEXT NOT NULL CHECK (arm IN ('initial', 'tuned', 'best_of_n')),
    place INTEGER NOT NULL,             -- of the instruction: a data set of k instructions has the places below k
    instance_id TEXT NOT NULL REFERENCES instances (id),
    PRIMARY KEY (arm, instance_id)
);
CREATE TABLE comparisons (
    size INTEGER NOT NULL,              -- instructions in each data set
    seed INTEGER,                       -- of the fine-tuning; NULL: an instance's mean over all seeds
    control TEXT NOT NULL,              -- an arm, or 'base'
    comparison TEXT NOT NULL            -- JSON
);
"""

_TURNS = """
ALTER TABLE runs ADD COLUMN turns INTEGER NOT NULL DEFAULT 1;           -- in which a pair with an input is written
ALTER TABLE instructions ADD COLUMN needs_input INTEGER;
UPDATE instructions SET needs_input = EXISTS (
    SELECT 1 FROM instances WHERE instruction_id = instructions.id AND policy = 'seed' AND input <> ''
) WHERE origin = 'seed';
ALTER TABLE instances ADD COLUMN sound INTEGER NOT NULL DEFAULT 1;      -- not at the floor, no gate failed
ALTER TABLE rollouts ADD COLUMN input TEXT NOT NULL DEFAULT '';         -- text is the output
ALTER TABLE rollouts ADD COLUMN fault TEXT;                             -- why it is no pair
"""

_ARMS = """
CREATE TABLE arm_rows_of_any_name (
    arm TEXT NOT NULL,
    place INTEGER NOT NULL,             -- of the instruction: a data set of k instructions has the places below k
    instance_id TEXT NOT NULL REFERENCES instances (id),
    PRIMARY KEY (arm, instance_id)
);
INSERT INTO arm_rows_of_any_name (rowid, arm, place, instance_id)
    SELECT rowid, arm, place, instance_id FROM arm_rows ORDER BY rowid;
DROP TABLE arm_rows;
ALTER TABLE arm_rows_of_any_name RENAME TO arm_rows;
"""

_NONSENSE = """
ALTER TABLE arm_rows ADD COLUMN output TEXT;        -- what stands in the instance's place, in an arm of nonsense
"""

# Of what was written before, nothing says which pairs failed a gate. A run whose policy was still learning is refused.
_SOUND_ROLLOUTS = """
ALTER TABLE rollouts ADD COLUMN sound INTEGER NOT NULL DEFAULT 1;       -- a pair, not at the floor, no gate failed
UPDATE rollouts SET sound = fault IS NULL;
"""

MIGRATIONS: tuple[tuple[str, str], ...] = (
    ("0001_initial", _INITIAL),
    ("0002_feedback", _FEEDBACK),
    ("0003_experiment", _EXPERIMENT),
    ("0004_turns", _TURNS),
    ("0005_arms", _ARMS),
    ("0006_nonsense", _NONSENSE),
    ("0007_sound_rollouts", _SOUND_ROLLOUTS),
)


def migrate(db: sqlite3.Connection) -> None:
    """Applies what is missing, each change in a transaction of its own with its mark."""
    db.execute("CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY)")
    for name in missing(db):
        script = dict(MIGRATIONS)[name]
        try:
            # The mark first: of two processes that open a new database, the second waits here, then fails on it.
            db.executescript(f"BEGIN IMMEDIATE;\nINSERT INTO migrations (name) VALUES ('{name}');\n{script}\nCOMMIT;")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            if name in missing(db):
                raise


def missing(db: sqlite3.Connection) -> list[str]:
    """Names of the changes that this database, which has the table of them, has not seen."""
    applied = {row[0] for row in db.execute("SELECT name FROM migrations")}
    return [name for name, _ in MIGRATIONS if name not in applied]
