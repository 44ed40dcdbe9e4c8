"""What the arms' evaluations say: each against the control and against the base, pooled over the seeds and seed by
seed; kept in the database for the report and as ``arms/comparison.json``. What holds across several policies is in
policies.py."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from refine_af.config import ExperimentConfig
from refine_af.evaluation.compare import Comparison, Evaluation, compare_evaluations
from refine_af.evaluation.comparison_files import read_evaluation
from refine_af.evaluation.comparison_likelihood import Likelihoods
from refine_af.evaluation.comparison_text import as_dict
from refine_af.experiment.policies import AcrossPolicies
from refine_af.store import Store

BASE = "base"
METRIC = "rouge_l"  # the paper's


def trained_name(arm: str, size: int, seed: int) -> str:
    """What a trained arm is called, in folders and metrics."""
    return f"{arm}-size{size}-seed{seed}"


@dataclass(frozen=True, slots=True)
class Compared:
    """A comparison of data sets of ``size`` instructions; ``seed`` None: of each instance's mean over all seeds."""

    size: int
    seed: int | None
    comparison: Comparison

    def as_dict(self) -> dict[str, Any]:
        """For JSON; the comparison's own ``seed`` is that of its bootstrap."""
        return {"size": self.size, "training_seed": self.seed, **as_dict(self.comparison)}


def read_evaluations(folder: Path, options: ExperimentConfig, sizes: Sequence[int]) -> dict[str, Evaluation]:
    """All evaluations under ``folder`` by name: the base's, and each trained arm's."""
    names = [trained_name(arm, size, seed) for arm in options.names for size in sizes for seed in options.seeds]
    return {name: read_evaluation(folder / name / "evaluation") for name in (BASE, *names)}


def compare_arms(
    evaluations: Mapping[str, Evaluation],
    options: ExperimentConfig,
    sizes: Sequence[int],
    seed: int,
    others: Sequence[Sequence[Evaluation]] = (),
) -> list[Compared]:
    """For each size: the arms against the first of them and against the base; with several seeds, each seed's too.
    ``others``: of the other policies the arms of the largest size, which are pooled with the run's own."""
    base = replace(evaluations[BASE], name=BASE)
    found = []
    for size in sizes:
        pooled = pooled_arms(evaluations, options, size)
        if size == sizes[-1]:
            pooled = [pool(arm) for arm in zip(pooled, *others, strict=True)]
        found.append(Compared(size, None, compare_evaluations(pooled[0], pooled[1:], METRIC, seed)))
        found.append(Compared(size, None, compare_evaluations(base, pooled, METRIC, seed)))
        if len(options.seeds) > 1:
            for one in options.seeds:
                arms = [replace(evaluations[trained_name(arm, size, one)], name=arm) for arm in options.names]
                found.append(Compared(size, one, compare_evaluations(arms[0], arms[1:], METRIC, seed)))
    return found


def pooled_arms(evaluations: Mapping[str, Evaluation], options: ExperimentConfig, size: int) -> list[Evaluation]:
    """The arms of one size, each pooled over its trainings."""
    names = [[trained_name(arm, size, seed) for seed in options.seeds] for arm in options.names]
    return [
        replace(pool([evaluations[one] for one in of_arm]), name=arm)
        for arm, of_arm in zip(options.names, names, strict=True)
    ]


def pool(evaluations: Sequence[Evaluation]) -> Evaluation:
    """One evaluation of each instance's mean scores and each task's mean likelihoods: instances stay the units, however
    many trainings there were."""
    columns = [{(row.task, row.id): row for row in one.rows} for one in evaluations]
    rows = [
        replace(
            row,
            rouge_l=fmean(column[row.task, row.id].rouge_l for column in columns),
            exact_match=fmean(column[row.task, row.id].exact_match for column in columns),
        )
        for row in evaluations[0].rows
    ]
    found = [one.likelihoods for one in evaluations if one.likelihoods is not None]
    likelihoods = replace(found[0], tasks=_means(found)) if len(found) == len(evaluations) else None
    return replace(evaluations[0], rows=rows, likelihoods=likelihoods)


def _means(found: Sequence[Likelihoods]) -> dict[str, dict[str, float]]:
    """Of each task, whose references are the same for all, the figures' means."""
    return {
        task: {figure: fmean(one.tasks[task][figure] for one in found) for figure in figures}
        for task, figures in found[0].tasks.items()
    }


def mean_scores(evaluation: Evaluation) -> dict[str, float]:
    """The official figures: means over instances."""
    return {
        "rouge_l": fmean(row.rouge_l for row in evaluation.rows),
        "exact_match": fmean(row.exact_match for row in evaluation.rows),
        "instances": len(evaluation.rows),
    }


def keep_results(store: Store, evaluations: Mapping[str, Evaluation], compared: Sequence[Compared]) -> None:
    """Into the database, in the caller's transaction: scores as metrics, comparisons as rows."""
    for name, evaluation in evaluations.items():
        store.add_metrics(f"arms/{name}", 0, mean_scores(evaluation))
    store.many(
        "INSERT INTO comparisons (size, seed, control, comparison) VALUES (?, ?, ?, ?)",
        [
            (one.size, one.seed, one.comparison.control, json.dumps(as_dict(one.comparison), ensure_ascii=False))
            for one in compared
        ],
    )


def results_json(
    options: ExperimentConfig,
    counts: Mapping[str, float],
    evaluations: Mapping[str, Evaluation],
    compared: Sequence[Compared],
    across: Sequence[AcrossPolicies] = (),
) -> str:
    """What ``arms/comparison.json`` holds: how the data sets came about, every model's scores, every comparison, and
    what holds across policies."""
    found = {
        "experiment": options.model_dump(mode="json"),
        "data": dict(counts),
        "scores": {name: mean_scores(evaluation) for name, evaluation in evaluations.items()},
        "comparisons": [one.as_dict() for one in compared],
        "across_policies": [asdict(one) for one in across],
    }
    return json.dumps(found, ensure_ascii=False, indent=2) + "\n"
