"""Promises of the run's database: whole units or nothing, a full disk told, earlier rows always readable."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from example_rows import instance, instruction, rollout, seed

from refine_af import migrations
from refine_af.errors import DiskFullError, RefineError, UsageError
from refine_af.records import Prediction, Rejection, StageCounts
from refine_af.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "run.db") as opened:
        yield opened


def ids(store: Store) -> list[str]:
    return [i.id for i in store.instructions()]


# -- rows come back ------------------------------------------------------------------------------------


def test_rows_come_back_as_they_were_added_and_in_that_order(store: Store) -> None:
    rows = [
        instruction("b", is_classification=True, nearest_id="a", nearest_rouge_l=0.25, text="Ünï\u2028 😀\x00"),
        seed("a", is_classification=False, needs_input=True, status="held_out"),
        instruction("c", needs_input=False, prompt_ids=("p", "q")),
    ]
    store.add_instructions(rows)
    assert store.instructions() == rows
    assert store.instructions(origin="seed") == rows[1:2]
    assert store.instructions(status="kept") == [rows[0], rows[2]]
    pairs = [
        instance("2", reward=0.5),
        instance("1", "b", policy="initial", selected=True),
        instance("3", policy="initial", input="x", sound=False),
    ]
    store.add_instances(pairs)
    assert store.instances() == pairs
    assert store.instances(policy="tuned") == pairs[:1]
    assert store.instances(selected=True) == pairs[1:2]
    assert store.instances(policy="tuned", selected=True) == []


def test_a_rollout_is_kept_with_its_input_its_output_and_its_fault(store: Store) -> None:
    store.add_instructions([instruction("a")])
    store.add_rollouts([rollout(0, input="in", text="out"), rollout(1, text="cut", fault="cut by length", ended=False)])
    found = store.query("SELECT input, text, fault, ended FROM rollouts ORDER BY position")
    assert [tuple(row) for row in found] == [("in", "out", None, 1), ("", "cut", "cut by length", 0)]


def test_selection_and_deletion_change_only_what_they_name(store: Store) -> None:
    store.add_instructions([instruction("a")])
    store.add_instances([instance("1"), instance("2"), instance("3")])
    store.add_scores([("1", "s", 1.0, 0.5), ("2", "s", 2.0, 1.0), ("2", "r", -1.0, 0.0)])
    store.select_instances(["3"])
    store.delete_instances(["1"])
    assert [(i.id, i.selected) for i in store.instances()] == [("2", False), ("3", True)]
    assert store.scores("1") == {}
    assert store.scores("2") == {"r": -1.0, "s": 2.0}


def test_reasons_are_counted_by_stage_the_most_common_first(store: Store) -> None:
    store.add_rejections([Rejection("s", r, "text") for r in ("b", "a", "c", "c")] + [Rejection("t", "z", "text")])
    assert list(store.rejection_reasons("s").items()) == [("c", 2), ("a", 1), ("b", 1)]
    assert store.rejected("s") == 4
    assert store.rejected("none") == 0


def test_metrics_are_kept_by_step_and_a_repetition_replaces(store: Store) -> None:
    store.add_metrics("s", 2, {"m": 2.0})
    store.add_metrics("s", 1, {"m": 1.0, "n": 5})
    store.add_metrics("s", 2, {"m": 3.0})
    assert store.metric("s", "m") == [(1, 1.0), (2, 3.0)]
    assert store.metric("s", "none") == []


def test_the_runs_config_is_kept(store: Store) -> None:
    assert store.has_schema()
    assert store.run_config() is None
    store.save_run({"seed": 1, "a": {"b": [1.5, None]}}, {"x": "1"})
    assert store.run_config() == {"seed": 1, "a": {"b": [1.5, None]}}


def test_a_stage_starts_once_keeps_its_cursor_and_ends(store: Store) -> None:
    assert not store.stage_done("s")
    assert store.cursor("s") == {}
    store.start_stage("s")
    store.save_cursor("s", round=3, read=10)
    store.start_stage("s")  # a resumed run begins it again
    assert store.cursor("s") == {"round": 3, "read": 10}
    assert not store.stage_done("s")
    store.finish_stage("s", StageCounts(read=3, kept=1, rejected=1, failed=1))
    assert store.stage_done("s")
    row = store.query("SELECT * FROM stages")[0]
    assert (row["read"], row["kept"], row["rejected"], row["failed"]) == (3, 1, 1, 1)


def test_a_stage_that_lost_rows_is_never_done(store: Store) -> None:
    store.start_stage("s")
    with pytest.raises(RefineError, match="stage s lost rows"):
        store.finish_stage("s", StageCounts(read=3, kept=1, rejected=1))
    assert not store.stage_done("s")


# -- identity ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", ["instructions", "instances", "rollouts", "predictions"])
def test_an_identity_is_there_once_and_a_clash_adds_nothing(store: Store, table: str) -> None:
    store.add_instructions([instruction("a")])
    add = {
        "instructions": lambda: store.add_instructions([instruction("b"), instruction("b", text="other")]),
        "instances": lambda: store.add_instances([instance("1"), instance("1")]),
        "rollouts": lambda: store.add_rollouts([rollout(0)] * 2),
        "predictions": lambda: store.add_predictions([Prediction("base", "a", "t", 0.0, 0.0)] * 2),
    }[table]
    before = store.scalar(f"SELECT COUNT(*) FROM {table}")
    with pytest.raises(RefineError):
        add()
    assert store.scalar(f"SELECT COUNT(*) FROM {table}") == before


# -- transactions --------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_unit_that_fails_leaves_nothing_behind(store: Store, error: type[BaseException]) -> None:
    store.start_stage("s")

    def unit() -> None:
        with store.transaction():
            store.add_instructions([instruction("a")])
            store.save_cursor("s", round=1)
            raise error

    with pytest.raises(error):
        unit()
    assert ids(store) == []
    assert store.cursor("s") == {}
    store.add_instructions([instruction("b")])  # and the store still works
    assert ids(store) == ["b"]


def test_nested_units_stand_or_fall_together(store: Store) -> None:
    def unit(fails: bool) -> None:
        with store.transaction():
            store.add_instructions([instruction("a")])
            with store.transaction():
                store.add_instructions([instruction("b")])
            if fails:
                raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 -- bare on purpose
        unit(fails=True)
    assert ids(store) == []
    unit(fails=False)
    assert ids(store) == ["a", "b"]


def test_nobody_else_sees_half_a_unit(store: Store) -> None:
    with Store(store.path, read_only=True) as reader:
        with store.transaction():
            store.add_instructions([instruction("a")])
            assert ids(store) == ["a"]
            assert ids(reader) == []
        assert ids(reader) == ["a"]


def test_rows_that_fail_while_they_are_made_leave_nothing_behind(store: Store) -> None:
    store.add_instructions([instruction("a")])
    store.add_instances([instance("1")])

    def rows() -> Iterator[tuple[str, str, float, float]]:
        yield "1", "s", 1.0, 0.5
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        store.add_scores(rows())
    assert store.scores("1") == {}


# -- what can go wrong with the file -------------------------------------------------------------------


def test_a_full_disk_is_told_and_what_was_done_before_stays(store: Store) -> None:
    store.start_stage("s")
    with store.transaction():
        store.add_instructions([instruction("a")])
        store.save_cursor("s", round=1)
    pages = store.scalar("PRAGMA page_count")
    store.query(f"PRAGMA max_page_count = {pages + 2}")

    def unit() -> None:
        with store.transaction():
            store.add_instructions([instruction("b")])
            store.add_rejections([Rejection("s", "long", "x" * 100_000)])
            store.save_cursor("s", round=2)

    with pytest.raises(DiskFullError) as caught:
        unit()
    assert str(store.path) in str(caught.value)
    assert "free some space" in str(caught.value)
    assert caught.value.exit_code == 2
    assert ids(store) == ["a"]
    assert store.cursor("s") == {"round": 1}
    with Store(store.path, read_only=True) as reader:
        assert ids(reader) == ["a"]
    store.query("PRAGMA max_page_count = 100000")  # space again, and the same unit goes through
    unit()
    assert ids(store) == ["a", "b"]


def test_a_reader_cannot_write(store: Store) -> None:
    store.add_instructions([instruction("a")])
    with Store(store.path, read_only=True) as reader:
        with pytest.raises((sqlite3.OperationalError, RefineError)):
            reader.add_instructions([instruction("b")])
        with pytest.raises((sqlite3.OperationalError, RefineError)):
            reader.query("DELETE FROM instructions")
        assert ids(reader) == ["a"]


@pytest.mark.parametrize("read_only", [True, False])
def test_a_file_that_is_no_database_is_told_in_one_line(tmp_path: Path, read_only: bool) -> None:
    path = tmp_path / "run.db"
    path.write_bytes(b"this is no database" * 100)

    def look() -> None:
        with Store(path, read_only=read_only) as opened:
            opened.run_config()

    with pytest.raises(RefineError, match="is not a usable database"):
        look()
    assert path.read_bytes() == b"this is no database" * 100


@pytest.mark.parametrize("read_only", [True, False])
def test_a_database_that_cannot_be_opened_is_told_in_one_line(tmp_path: Path, read_only: bool) -> None:
    (tmp_path / "run.db").mkdir()
    with pytest.raises(UsageError, match=r"run\.db can't be opened \(unable to open database file\); check its perm"):
        Store(tmp_path / "run.db", read_only=read_only)


# -- migrations ----------------------------------------------------------------------------------------


def test_opening_again_changes_nothing(store: Store) -> None:
    store.add_instructions([instruction("a")])
    schema = [tuple(r) for r in store.query("SELECT type, name, sql FROM sqlite_master ORDER BY name")]
    for _ in range(2):
        with Store(store.path) as again:
            assert [tuple(r) for r in again.query("SELECT type, name, sql FROM sqlite_master ORDER BY name")] == schema
            assert ids(again) == ["a"]
    assert [r["name"] for r in store.query("SELECT name FROM migrations")] == [m[0] for m in migrations.MIGRATIONS]


def test_an_older_database_gets_what_it_lacks_and_keeps_its_rows(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.add_instructions([instruction("a")])
    change = ("0002_notes", "CREATE TABLE notes (text TEXT);\nINSERT INTO notes VALUES ('new');")
    monkeypatch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, change))
    for _ in range(2):
        with Store(store.path) as newer:
            assert [r["text"] for r in newer.query("SELECT text FROM notes")] == ["new"]
            assert ids(newer) == ["a"]


def test_a_change_that_fails_halfway_is_undone_at_once_and_can_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = migrations.MIGRATIONS
    broken = ("0002_notes", "CREATE TABLE notes (text TEXT);\nINSERT INTO nowhere VALUES (1);")
    monkeypatch.setattr(migrations, "MIGRATIONS", (*known, broken))
    db = sqlite3.connect(tmp_path / "run.db", isolation_level=None)
    with pytest.raises(sqlite3.OperationalError, match="nowhere"):
        migrations.migrate(db)
    assert not db.in_transaction  # else the file stays locked for everybody
    mended = ("0002_notes", "CREATE TABLE notes (text TEXT);")
    monkeypatch.setattr(migrations, "MIGRATIONS", (*known, mended))
    migrations.migrate(db)
    assert db.execute("SELECT COUNT(*) FROM notes").fetchone() == (0,)
    db.close()


def older(path: Path, changes: int) -> sqlite3.Connection:
    """A database as it was when there were so many changes."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("CREATE TABLE migrations (name TEXT PRIMARY KEY)")
    for name, script in migrations.MIGRATIONS[:changes]:
        db.executescript(script)
        db.execute("INSERT INTO migrations VALUES (?)", (name,))
    return db


def test_a_database_from_before_turns_keeps_its_rows_and_learns_which_seeds_have_an_input(tmp_path: Path) -> None:
    db = older(tmp_path / "run.db", 3)
    db.execute("INSERT INTO runs (id, config, versions, created_at) VALUES (1, '{}', '{}', 0)")
    instructions = "INSERT INTO instructions VALUES (?, ?, NULL, ?, 1, 'm', '[]', NULL, NULL, 'kept')"
    db.executemany(instructions, [("s", "With", "seed"), ("t", "Without", "seed"), ("g", "Own", "generated")])
    instances = "INSERT INTO instances (id, instruction_id, input, output, model, policy) VALUES (?, ?, ?, 'o', 'm', ?)"
    db.executemany(instances, [("1", "s", "given", "seed"), ("2", "t", "", "seed"), ("3", "g", "given", "initial")])
    db.execute("INSERT INTO rollouts VALUES ('train', 1, 0, 'g', 'Output: y', 2, 1, 0.5)")
    db.close()
    with Store(tmp_path / "run.db", read_only=True) as reader:
        assert reader.is_outdated()
        assert not reader.writes_pairs_as_now()
    with Store(tmp_path / "run.db") as store:
        assert [(i.text, i.needs_input) for i in store.instructions()] == [
            ("With", True), ("Without", False), ("Own", None),
        ]  # fmt: skip
        assert [(i.id, i.sound) for i in store.instances()] == [("1", True), ("2", True), ("3", True)]
        (row,) = store.query("SELECT * FROM rollouts")
        assert (row["input"], row["text"], row["fault"], row["reward"]) == ("", "Output: y", None, 0.5)
        assert not store.writes_pairs_as_now()
        store.write_pairs_as_now()
        assert store.writes_pairs_as_now()


def test_rollouts_of_which_nobody_knows_whether_they_failed_a_gate_stay_what_they_were(tmp_path: Path) -> None:
    db = older(tmp_path / "run.db", 6)
    rows = "INSERT INTO rollouts (split, iteration, position, instruction_id, text, fault, tokens, ended, reward) "
    for split in ("train", "before"):
        db.execute(f"{rows} VALUES (?, 0, 0, 'g', 'y', NULL, 2, 1, 0.5)", (split,))
        db.execute(f"{rows} VALUES (?, 0, 1, 'g', 'y', 'cut by length', 2, 0, -3)", (split,))
    db.close()
    with Store(tmp_path / "run.db") as store:
        found = [tuple(row) for row in store.query("SELECT split, sound FROM rollouts ORDER BY split, position")]
    assert found == [("before", 1), ("before", 0), ("train", 1), ("train", 0)]


def test_a_new_run_writes_pairs_as_now(store: Store) -> None:
    assert not store.writes_pairs_as_now(), "there is no run yet"
    store.save_run({}, {})
    assert store.writes_pairs_as_now()


def test_the_names_of_changes_are_ordered_and_unique() -> None:
    names = [name for name, _ in migrations.MIGRATIONS]
    assert names == sorted(set(names))
