"""Promises of the evaluator's head: it learns, the same in every process, and knows what it does not know."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from refine_af.evaluation.ranking import auc
from refine_af.feedback.evaluator.head import FOLDS, Head, train


def rows(tasks: int = 60, seed: int = 0) -> tuple[np.ndarray, list[str], list[int]]:
    """Features of good and bad rows: the first column tells kind "low", the product of the next two kind "odd"."""
    chance = np.random.default_rng(seed)
    features, kinds, places = [], [], []
    for task in range(tasks):
        for kind in ("good", "low", "odd"):
            row = chance.normal(size=5)
            row[0] = chance.normal(-2.0 if kind == "low" else 1.0)
            row[1], row[2] = abs(row[1]) + 0.5, (abs(row[2]) + 0.5) * (-1 if kind == "odd" else 1)
            features.append(row)
            kinds.append(kind)
            places.append(task)
    return np.array(features, np.float32), kinds, places


def test_it_tells_good_rows_of_unseen_tasks_from_each_kind_of_bad_ones() -> None:
    head, areas = train(*rows(), "good")
    features, kinds, _ = rows(seed=1)
    odds = head.score(features)
    good = [float(v) for v, kind in zip(odds, kinds, strict=True) if kind == "good"]
    for bad in ("low", "odd"):
        assert auc(good, [float(v) for v, kind in zip(odds, kinds, strict=True) if kind == bad]) > 0.95
        assert areas[bad] > 0.95


def test_labels_of_chance_teach_nothing_that_the_areas_would_claim() -> None:
    features, kinds, tasks = rows()
    np.random.default_rng(2).shuffle(features)
    _, areas = train(features, kinds, tasks, "good")
    assert all(0.35 < area < 0.65 for area in areas.values())


def test_training_is_the_same_whatever_the_process_did_before() -> None:
    one, _ = train(*rows(), "good")
    torch.manual_seed(123)
    torch.randn(7)
    before = torch.random.get_rng_state()
    threads = torch.get_num_threads()
    other, _ = train(*rows(), "good")
    assert np.array_equal(one.inner, other.inner)
    assert one.good_mean == other.good_mean
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.get_num_threads() == threads


def test_a_saved_head_says_the_same(tmp_path: Path) -> None:
    head, _ = train(*rows(), "good")
    head.save(tmp_path / "head.npz")
    loaded = Head.load(tmp_path / "head.npz")
    features = rows(seed=3)[0]
    assert np.array_equal(loaded.score(features), head.score(features))
    assert loaded.good_spread == head.good_spread


def test_a_feature_far_beyond_all_that_was_seen_counts_no_more_than_at_the_edge() -> None:
    head, _ = train(*rows(), "good")
    row = rows(seed=4)[0][:1]
    far, farther = row.copy(), row.copy()
    far[0, 0], farther[0, 0] = 1e3, 1e6
    assert head.score(far) == pytest.approx(head.score(farther))


def test_the_networks_are_as_many_as_the_folds_or_a_multiple() -> None:
    head, _ = train(*rows(), "good")
    assert len(head.outer) % FOLDS == 0
