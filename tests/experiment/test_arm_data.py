"""Promises of the arms' data sets and of what is pooled over seeds, without a model."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any, cast

import pytest
from example_rows import instance, instruction
from hypothesis import given
from hypothesis import strategies as st

from refine_af import migrations
from refine_af.config import Config, ExperimentConfig, load_config
from refine_af.errors import UsageError
from refine_af.evaluation.compare import Evaluation, Scored
from refine_af.experiment.data import arm_instances, make_data_sets, match
from refine_af.experiment.results import compare_arms, pool, trained_name
from refine_af.progress import Silent
from refine_af.records import Instance
from refine_af.stages.context import Context
from refine_af.store import Store

ARMS = ("initial", "tuned", "best_of_n")


def instances(arm: str, counts: dict[str, int]) -> list[Instance]:
    return [
        instance(f"{arm}-{id}-{n}", id, policy=arm, reward=-float(n))
        for id, count in counts.items()
        for n in range(count)
    ]


def evaluation(name: str, scores: list[float]) -> Evaluation:
    return Evaluation(name, [Scored(f"i{n}", f"t{n}", "", score, 0.0) for n, score in enumerate(scores)])


@given(st.lists(st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 3)), min_size=2, max_size=3))
def test_every_arm_keeps_the_same_instructions_as_many_pairs_each_and_loses_none(counts: list[dict[str, int]]) -> None:
    chosen = {arm: instances(arm, found) for arm, found in zip(ARMS, counts, strict=False)}
    matched = match(chosen)
    common = set.intersection(*(set(found) for found in counts))
    for arm, rows in chosen.items():
        kept = matched.kept[arm]
        assert set(kept) == common
        assert all(len(kept[id]) == min(found[id] for found in counts) for id in common)
        together = [row for part in kept.values() for row in part] + [r for a, r in matched.left_out if a == arm]
        assert sorted(row.id for row in together) == sorted(row.id for row in rows)
        # What is left out is the worse part.
        assert all(row.id.endswith(f"-{n}") for part in kept.values() for n, row in enumerate(part))


def test_an_arm_takes_no_pair_that_is_unsound_and_best_of_n_of_one_input_the_better_output(tmp_path: Path) -> None:
    config = load_config(overrides=["experiment.arms=[initial, tuned, best_of_n]", "instances.per_instruction=2"])
    given = {"input": "x", "instruction_id": "a"}
    with Store(tmp_path / "run.db") as store:
        store.add_instructions([instruction("a"), instruction("b")])
        store.add_instances(
            [
                instance("1", policy="initial", reward=9.0, sound=False),
                instance("2", **given, policy="initial", reward=1.0),
                instance("3", **given, policy="best_of_n", reward=2.0),
                instance("4", policy="tuned", reward=0.5),
                instance("5", "b", policy="initial", reward=1.0),
                instance("6", "b", policy="tuned", reward=1.0, sound=False),
            ]
        )
        make_data_sets(Context(config, store, tmp_path, cast(Any, None), Silent()), [], {})
        assert {arm: [i.id for i in arm_instances(store, arm)] for arm in ARMS} == {
            "initial": ["2"], "tuned": ["4"], "best_of_n": ["3"],
        }  # fmt: skip
        assert len(store.instances()) == 6, "what is not taken stays"


def test_each_way_of_choosing_takes_its_own_pair_and_feedback_counts_for_best_and_worst_alone(tmp_path: Path) -> None:
    arms = "self_instruct, initial, {name: least, policy: initial, choose: worst}, " + ", ".join(
        f"{{name: lot{n}, policy: initial, choose: chance}}" for n in range(20)
    )
    config = load_config(overrides=[f"experiment.arms=[{arms}]"])
    with Store(tmp_path / "run.db") as store:
        store.add_instructions([instruction("a")])
        rewards = [(0.3, True), (9.0, False), (0.7, True), (-0.5, True), (-3.0, False)]
        store.add_instances(
            instance(str(n), policy="initial", reward=reward, sound=sound) for n, (reward, sound) in enumerate(rewards)
        )
        made = Context(config, store, tmp_path, cast(Any, None), Silent())
        make_data_sets(made, [], {})
        taken = {name: [i.id for i in arm_instances(store, name)] for name in config.experiment.names}
    assert (taken["self_instruct"], taken["initial"], taken["least"]) == (["0"], ["2"], ["3"])
    drawn = {taken[f"lot{n}"][0] for n in range(20)}
    assert len(drawn) >= 3


def test_nonsense_is_made_of_an_arms_own_pairs_and_the_shortest_needs_no_feedback(tmp_path: Path) -> None:
    config = load_config(overrides=["experiment.arms=[tuned, shuffled, last_word, shortest]"])
    outputs = ["one", "two words", "three of them", "and four of them"]
    with Store(tmp_path / "run.db") as store:
        store.add_instructions([instruction(id) for id in "abcd"])
        for policy in ("tuned", "initial"):
            store.add_instances(
                instance(f"{policy}-{id}", id, policy=policy, output=f"{policy} {text}", reward=1.0)
                for id, text in zip("abcd", outputs, strict=True)
            )
        store.add_instances([instance("long", "a", policy="initial", output="a much longer answer", reward=9.0)])
        make_data_sets(Context(config, store, tmp_path, cast(Any, None), Silent()), [], {})
        made = {name: {i.instruction_id: i for i in arm_instances(store, name)} for name in config.experiment.names}
    own = {id: one.output for id, one in made["tuned"].items()}
    shuffled = {id: one.output for id, one in made["shuffled"].items()}
    assert sorted(shuffled.values()) == sorted(own.values())
    assert all(shuffled[id] != own[id] for id in own)
    assert {id: one.output for id, one in made["last_word"].items()} == {id: own[id].split()[-1] for id in own}
    assert all(one.reward is None and one.id not in {i.id for i in made["tuned"].values()}
               for one in made["shuffled"].values())  # fmt: skip
    assert made["shortest"]["a"].output == "initial one"


@pytest.mark.parametrize(
    ("arms", "told"),
    [
        ("[initial, tunde]", "no arm is called tunde; there are initial, tuned"),
        ("[initial, {name: base, policy: tuned}]", "base is the name of the model that is not tuned"),
        ("[initial, {name: tuned, policy: initial}]", "tuned is the name of another arm"),
        ("[initial, {name: x-size, policy: initial}]", "name"),
        ("[initial, {name: x, policy: nobody}]", "policy"),
        ("[initial, {name: x, policy: tuned, spoil: worse}]", "spoil"),
        ("[initial, {name: tuned, policy: tuned, spoil: shuffled}]", "tuned is the name of another arm"),
    ],
)
def test_an_arm_that_can_not_be_is_told(arms: str, told: str) -> None:
    with pytest.raises(UsageError, match=told) as caught:
        load_config(overrides=[f"experiment.arms={arms}"])
    assert "\n" not in str(caught.value)


def test_arms_are_written_as_they_are_read() -> None:
    arms = [
        "self_instruct",
        "shuffled",
        {"name": "worst", "policy": "tuned", "choose": "worst"},
        {"name": "ends", "policy": "initial", "choose": "first", "spoil": "last_word"},
    ]
    config = load_config(overrides=[f"experiment.arms={json.dumps(arms)}"])
    assert config.model_dump(mode="json")["experiment"]["arms"] == arms
    assert Config.model_validate(config.model_dump(mode="json")) == config


def test_an_instances_score_is_its_mean_over_the_seeds() -> None:
    pooled = pool([evaluation("a", [10, 20]), evaluation("b", [30, 20])])
    assert [row.rouge_l for row in pooled.rows] == [20, 20]


def test_a_task_that_the_seeds_pull_both_ways_alike_ties() -> None:
    options = ExperimentConfig.model_validate({"arms": ("initial", "tuned"), "seeds": (0, 1)})
    found = {"base": evaluation("base", [0, 0])}
    for seed, scores in enumerate(([10.1, 30.0], [20.3, 40.0])):
        found[trained_name("initial", 5, seed)] = evaluation("x", [15.2, 35.0])
        found[trained_name("tuned", 5, seed)] = evaluation("y", scores)
    compared = compare_arms(found, options, [5], 0)
    assert [(one.seed, one.comparison.control) for one in compared] == [
        (None, "initial"), (None, "base"), (0, "initial"), (1, "initial"),
    ]  # fmt: skip
    assert compared[0].comparison.against[0].overall.ties == 2
    assert compared[1].comparison.against[0].overall.wins == 2
    assert [one.comparison.against[0].overall.losses for one in compared[2:]] == [2, 0]


def test_a_database_from_before_keeps_its_rows_and_takes_the_new_policy(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    db = sqlite3.connect(path, isolation_level=None)
    known = migrations.MIGRATIONS
    db.execute("CREATE TABLE migrations (name TEXT PRIMARY KEY)")
    for name, script in known[:2]:
        db.executescript(script)
        db.execute("INSERT INTO migrations VALUES (?)", (name,))
    db.execute("INSERT INTO instructions VALUES ('a', 'Do a', NULL, 'generated', 1, 'm', '[]', NULL, NULL, 'kept')")
    for rowid, id in ((7, "z"), (3, "y")):
        values = (rowid, id, "a", "", "out", "m", "tuned", 0.5, 1)
        db.execute(
            "INSERT INTO instances (rowid, id, instruction_id, input, output, model, policy, reward, selected) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            values,
        )
    db.execute("INSERT INTO scores VALUES ('z', 'pmi', 0.25, 0.1)")
    db.close()
    with Store(path) as store:
        assert [(i.id, i.policy, i.reward, i.selected) for i in store.instances()] == [
            ("y", "tuned", 0.5, True), ("z", "tuned", 0.5, True),
        ]  # fmt: skip
        assert store.scores("z") == {"pmi": 0.25}
        store.add_instances([instance("w", policy="best_of_n")])
        assert [i.id for i in store.instances()][-1] == "w"
        assert store.scalar("SELECT COUNT(*) FROM sqlite_master WHERE name = 'instances_by_instruction'") == 1
