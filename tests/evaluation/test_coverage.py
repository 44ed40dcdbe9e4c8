"""Promises of the intervals, shown by simulated comparisons whose truth is known: what is said to hold in 95 of 100."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from refine_af.evaluation.bootstrap import TaskBootstrap
from refine_af.evaluation.significance import sign_test, wilson_interval


def coverage(
    *, tasks: int, instances: int, between: float, within: float, tied: float, trials: int, mean: float = 2.0
) -> dict[str, float]:
    """How often each interval holds the truth, over comparisons with new tasks and new instances each time.

    ``between``, ``within``: standard deviations of the tasks' effects and of an instance's difference; ``tied``: the
    share of tasks on which both models answer alike.
    """
    # An observed task difference is normal with both variances; a share's truth is a task's chance to be won.
    share = 0.5 * math.erfc(-mean / math.hypot(between, within / math.sqrt(instances)) / math.sqrt(2))
    truth = {"difference": mean * (1 - tied), "share": share * (1 - tied), "share_decided": share}
    generator, held = np.random.default_rng(0), Counter[str]()
    for trial in range(trials):
        effects = generator.normal(mean, between, (tasks, 1))
        drawn = effects + generator.normal(0.0, within, (tasks, instances))
        drawn[generator.random(tasks) < tied] = 0.0
        bootstrap = TaskBootstrap(list(drawn), seed=trial, resamples=400)
        found = bootstrap.group(range(tasks))
        for name, value in truth.items():
            for level in ("tasks", "instances"):
                low, high = getattr(getattr(found, name), level)
                held[f"{name} {level}"] += low <= value <= high
        wins, decided = int((bootstrap.means > 0).sum()), int((bootstrap.means != 0).sum())
        for name, count in (("share", tasks), ("share_decided", decided)):
            low, high = wilson_interval(wins, count)
            held[f"{name} wilson"] += low <= truth[name] <= high
    return {name: count / trials for name, count in held.items()}


def test_every_interval_holds_the_truth_in_about_95_of_100_comparisons() -> None:
    held = coverage(tasks=50, instances=6, between=6.0, within=5.0, tied=0.25, trials=1000)
    assert len(held) == 8
    for name, share in held.items():
        assert 0.92 <= share <= 0.98, (name, share)


def test_where_instances_are_noisy_the_interval_over_both_levels_is_too_wide_and_never_too_narrow() -> None:
    held = coverage(tasks=50, instances=5, between=0.0, within=10.0, tied=0.0, trials=300)
    assert held["difference instances"] > 0.98
    assert held["share instances"] > 0.97
    assert 0.92 <= held["difference tasks"] <= 0.98


@pytest.mark.parametrize(("tasks", "least", "most"), [(6, 0.80, 0.90), (10, 0.86, 0.93), (20, 0.90, 0.95)])
def test_on_few_tasks_the_bootstrap_is_too_narrow_as_the_notes_say_and_wilson_is_not(
    tasks: int, least: float, most: float
) -> None:
    held = coverage(tasks=tasks, instances=8, between=6.0, within=6.0, tied=0.0, trials=600)
    assert least <= held["difference tasks"] <= most
    assert held["share_decided wilson"] >= 0.92


def test_a_difference_that_is_not_there_is_found_in_no_more_than_5_of_100() -> None:
    wins = np.random.default_rng(1).binomial(80, 0.5, 2000)
    found = np.mean([sign_test(int(w), 80 - int(w)) < 0.05 for w in wins])
    assert 0.02 < found <= 0.055
