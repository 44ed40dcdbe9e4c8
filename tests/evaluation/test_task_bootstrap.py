"""Promises of the bootstrap over tasks and their instances: what can be counted, what a plain loop finds, and order."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from refine_af.evaluation.bootstrap import GroupIntervals, TaskBootstrap


def some_tasks(count: int, instances: int, *, seed: int = 0) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [generator.normal(effect, 4.0, instances) for effect in generator.normal(0.8, 3.0, count)]


def loop(tasks: Sequence[np.ndarray], *, nested: bool, resamples: int) -> np.ndarray:
    """Mean, share, share of the decided by resample, as one would write it down first."""
    generator, found = random.Random(5), []
    for _ in range(resamples):
        drawn = []
        for _ in tasks:
            values = generator.choice(tasks)
            drawn.append(np.mean(generator.choices(values, k=len(values)) if nested else values))
        wins, losses = sum(d > 1e-9 for d in drawn), sum(d < -1e-9 for d in drawn)
        found.append((np.mean(drawn), wins / len(drawn), wins / (wins + losses) if wins + losses else np.nan))
    return np.array(found)


def all_intervals(found: GroupIntervals, level: str) -> np.ndarray:
    return np.array([getattr(one, level) for one in (found.difference, found.share, found.share_decided)])


@pytest.mark.parametrize(("level", "nested"), [("tasks", False), ("instances", True)])
def test_the_intervals_are_those_of_a_plain_loop(level: str, nested: bool) -> None:
    tasks = [*some_tasks(16, 5), *(np.zeros(5) for _ in range(4)), np.array([0.0, 0.0, 0.0, 0.0, 30.0])]
    expected = np.nanpercentile(loop(tasks, nested=nested, resamples=6000), [2.5, 97.5], axis=0).T
    found = all_intervals(TaskBootstrap(tasks).group(range(21)), level)
    assert found[0] == pytest.approx(expected[0], abs=0.12)  # of a width of 4
    assert found[1] == pytest.approx(expected[1], abs=1.01 / 21)  # one task, where a percentile lies between two counts
    assert found[2] == pytest.approx(expected[2], abs=0.04)


def test_the_shares_have_the_intervals_of_the_binomial_distribution() -> None:
    # Each task is won by one instance of five, which a resample of five draws at least once with 1 - 0.8^5.
    tasks = [np.array([0.0, 0.0, 0.0, 0.0, 10.0])] * 40 + [np.array([-1.0, -2.0])] * 60
    found = TaskBootstrap(tasks).group(range(100)).share
    assert found.tasks == pytest.approx(stats.binom.ppf([0.025, 0.975], 100, 0.4) / 100, abs=0.0101)
    seen = 0.4 * (1 - 0.8**5)
    assert found.instances == pytest.approx(stats.binom.ppf([0.025, 0.975], 100, seen) / 100, abs=0.0101)


def test_the_mean_over_both_levels_has_the_interval_that_can_be_counted() -> None:
    # A slot of a resample takes each task with 1/6, and two instances 0 and 12 give 0, 6 or 12 with 1/4, 1/2, 1/4.
    # The six slots are independent, so the whole distribution is a convolution.
    tasks = [np.array([0.0, 12.0])] * 3 + [np.array([6.0, 6.0])] * 3
    slot = np.zeros(13)
    slot[[0, 6, 12]] = np.array([1 / 4, 1 / 2, 1 / 4]) / 2 + np.array([0, 1, 0]) / 2
    chance = slot
    for _ in range(5):
        chance = np.convolve(chance, slot)
    below = np.cumsum(chance)
    expected = tuple(int(np.argmax(below >= q)) / 6 for q in (0.025, 0.975))
    found = TaskBootstrap(tasks).group(range(6))
    assert found.difference.instances == pytest.approx(expected)
    # Over tasks alone each has its mean of 6, whichever are drawn.
    assert found.difference.tasks == (6.0, 6.0)


def test_a_task_drawn_twice_has_other_instances_each_time() -> None:
    # Six equal tasks vary as six and not as one: the variance is 1/2 by slot, 1/12 of the mean.
    found = TaskBootstrap([np.array([-1.0, 1.0])] * 6).group(range(6))
    assert found.difference.instances == pytest.approx((-2 / 3, 2 / 3), abs=0.17)


def test_ties_that_floating_point_would_break_stay_ties() -> None:
    # 0.1 + 0.2 - 0.3 is no zero in floating point.
    found = TaskBootstrap([np.array([0.1, 0.2, -0.3])] * 6)
    assert (found.means == 0).all()
    assert found.group(range(6)).share.tasks == (0.0, 0.0)


def test_equal_evaluations_have_intervals_without_nan() -> None:
    found = TaskBootstrap([np.zeros(4)] * 8).group(range(8))
    assert found.difference.tasks == found.difference.instances == (0.0, 0.0)
    assert found.share.tasks == found.share.instances == (0.0, 0.0)
    assert found.share_decided.tasks is found.share_decided.instances is None


def test_too_few_tasks_or_instances_have_no_interval() -> None:
    bootstrap = TaskBootstrap([np.array([1.0, 2.0, 3.0, 4.0, 5.0]), *some_tasks(6, 6)])
    assert bootstrap.group(range(5)).difference.tasks is None
    assert bootstrap.group(range(6)).difference.tasks is not None
    assert bootstrap.task(0) is None
    assert bootstrap.task(1) is not None


def test_a_groups_intervals_depend_on_its_tasks_and_the_seed_alone() -> None:
    tasks = some_tasks(20, 8)
    first, second = TaskBootstrap(tasks, seed=3), TaskBootstrap(tasks, seed=3)
    second.group(range(12))
    assert first.group(range(8)) == second.group(range(8))
    assert first.group(range(8)) != TaskBootstrap(tasks, seed=4).group(range(8))


def test_a_task_without_instances_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one instance"):
        TaskBootstrap([np.array([1.0]), np.array([])])


def test_a_hundred_instances_of_119_tasks_take_seconds() -> None:
    begin = time.process_time()
    TaskBootstrap(some_tasks(119, 100)).group(range(119))
    assert time.process_time() - begin < 2  # half a second on an idle core
