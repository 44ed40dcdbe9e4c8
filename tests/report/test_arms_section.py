"""Promises of the report's first section: it is there where arms were compared, and shows the comparison's figures."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from test_report import plain

from refine_af.config import Config, ExperimentConfig
from refine_af.evaluation.compare import Evaluation, Scored
from refine_af.evaluation.comparison_text import conclusion
from refine_af.experiment.results import compare_arms, keep_results, trained_name
from refine_af.report import write_report
from refine_af.report.arms import collect_arms
from refine_af.store import Store

HOSTILE = "<script>alert(1)</script>"


def evaluated(better: float, seed: int) -> Evaluation:
    """Thirty tasks of three instances in two categories."""
    chance = random.Random(seed)
    return Evaluation(
        "x",
        [
            Scored(f"{t}-{i}", f"task{t} {HOSTILE}", ("Data to Text", HOSTILE)[t % 2], 30 + better + chance.random(), 0)
            for t in range(30)
            for i in range(3)
        ],
    )


def save_config(store: Store, options: ExperimentConfig) -> None:
    store.save_run(Config(experiment=options).model_dump(mode="json"), {})


def page(folder: Path, **options: object) -> tuple[str, Store]:
    chosen = ExperimentConfig.model_validate({"arms": ("initial", "tuned"), **options})
    sizes = list(chosen.sizes) or [50]
    found = {"base": evaluated(0, 0)}
    for place, arm in enumerate(chosen.names):
        for size in sizes:
            for seed in chosen.seeds:
                found[trained_name(arm, size, seed)] = evaluated(0.5 + place + size / 100, seed + 1)
    store = Store(folder / "run.db")
    save_config(store, chosen)
    counts = {f"{arm}/{what}": value for arm in chosen.names for what, value in (("contaminated", 3), ("shared", 11))}
    store.add_metrics("arms", 0, {"instructions": 50, "left_out": 7, **counts})
    keep_results(store, found, compare_arms(found, chosen, sizes, 0))
    write_report(store, folder / "report.html")
    return (folder / "report.html").read_text(encoding="utf-8"), store


def test_the_table_opens_the_report_with_shares_tests_and_what_they_allow_to_say(tmp_path: Path) -> None:
    made, store = page(tmp_path)
    arms = collect_arms(store)
    assert arms is not None
    versus = arms.pooled("initial").against[0]
    text = plain(made)
    assert versus.overall.wins == 30
    for shown in (
        "30/0/0",
        "100 %",
        "Tasks improved, of all",
        "p < 0.001",
        "7 are left out",
        "tuned policy 3.",
        "has too: tuned policy 11.",
    ):
        assert shown in text
    assert conclusion(versus, "initial", metric="rouge_l") in text
    assert made.index('id="arms"') < made.index('id="funnel"')
    store.close()


def test_texts_of_the_tasks_are_never_markup(tmp_path: Path) -> None:
    made, store = page(tmp_path)
    assert "<script>" not in made
    store.close()


@pytest.mark.parametrize(
    ("options", "there", "absent"),
    [
        ({}, [], ["Score over data size", "Seed by seed"]),
        ({"sizes": (20, 50)}, ["Score over data size"], ["Seed by seed", "range of the seeds"]),
        ({"seeds": (0, 1)}, ["Seed by seed"], ["Score over data size"]),
        ({"sizes": (20, 50), "seeds": (0, 1)}, ["Seed by seed", "range of the seeds"], []),
    ],
)
def test_sizes_add_a_curve_and_seeds_their_spread(
    options: dict[str, object], there: list[str], absent: list[str], tmp_path: Path
) -> None:
    made, store = page(tmp_path, **options)
    assert all(shown in made for shown in there)
    assert not any(shown in made for shown in absent)
    store.close()


def test_what_is_read_back_is_what_was_compared(tmp_path: Path) -> None:
    options = ExperimentConfig.model_validate({"arms": ("initial", "tuned")})
    found = {"base": evaluated(0, 0), **{trained_name(a, 50, 0): evaluated(n, n) for n, a in enumerate(options.names)}}
    compared = compare_arms(found, options, [50], 0)
    with Store(tmp_path / "run.db") as store:
        save_config(store, options)
        store.add_metrics("arms", 0, {"instructions": 50})
        keep_results(store, found, compared)
        arms = collect_arms(store)
    assert arms is not None
    assert [one.comparison for one in arms.comparisons] == [one.comparison for one in compared]
    assert (arms.names, arms.sizes, arms.seeds, arms.instances) == (["initial", "tuned"], [50], [0], 90)
