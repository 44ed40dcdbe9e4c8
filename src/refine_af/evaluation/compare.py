"""Two or more evaluations, task by task: wins, ties, losses, how sure they are, and by how much.

The first evaluation is the control; each other one is compared with it on the instances that both have. Reading an
evaluation's folder is left to comparison_files.py, sentences, tables and the chart to comparison_text.py,
comparison_table.py and comparison_chart.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from refine_af.errors import UsageError
from refine_af.evaluation.bootstrap import RESAMPLES, Floats, Levels, TaskBootstrap, mean_difference
from refine_af.evaluation.comparison_likelihood import LikelihoodDifference, Likelihoods, compare_likelihoods
from refine_af.evaluation.significance import Interval, sign_test, wilcoxon_test, wilson_interval

Metric = Literal["rouge_l", "exact_match"]
METRICS = ("rouge_l", "exact_match", "official")


@dataclass(frozen=True, slots=True)
class Scored:
    """An answered instance; the scores lie in [0, 100]. ``missing``: there was no prediction, and both scores are 0."""

    id: str
    task: str
    category: str
    rouge_l: float
    exact_match: float
    missing: bool = False


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One model's scores. ``settings`` tell what they depend on; ``metrics`` is each category's official metric."""

    name: str
    rows: Sequence[Scored]
    settings: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    likelihoods: Likelihoods | None = None


@dataclass(frozen=True, slots=True)
class TaskDifference:
    """A task's mean scores by both models. ``difference`` is other − control, zero exactly where they tie.

    ``interval``: 95 %, over the task's instances; None where it has fewer than six.
    """

    name: str
    category: str
    metric: Metric
    instances: int
    control: float
    other: float
    difference: float
    interval: Interval | None

    @property
    def outcome(self) -> Literal["win", "tie", "loss"]:
        return "win" if self.difference > 0 else "loss" if self.difference < 0 else "tie"


@dataclass(frozen=True, slots=True)
class Share:
    """A share in [0, 1] with 95 % intervals: Wilson's and the bootstrap's. None where there is nothing to share."""

    value: float | None
    wilson: Interval | None
    bootstrap: Levels


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean difference over tasks, in points of the metric, with its bootstrap intervals."""

    value: float
    bootstrap: Levels


@dataclass(frozen=True, slots=True)
class Group:
    """All tasks, or those of a category. ``control`` and ``other`` are means over tasks, not over instances."""

    name: str
    tasks: int
    wins: int
    ties: int
    losses: int
    control: float
    other: float
    share: Share  # won, of all tasks
    share_decided: Share  # won, of the tasks that do not tie
    difference: Mean
    sign_p: float
    wilcoxon_p: float

    @property
    def decided(self) -> int:
        return self.wins + self.losses


@dataclass(frozen=True, slots=True)
class Pairing:
    """What of two evaluations could be compared."""

    instances: int
    only_control: int  # instances that are left out, since the other one has them not
    only_other: int
    missing_control: int  # among the compared: no prediction, scored 0
    missing_other: int
    different: dict[str, tuple[Any, Any]]  # settings that both tell and that differ: (control's, other's)
    unsaid: tuple[str, ...]  # settings that one of the two does not tell
    other_questions: bool = False  # both have likelihoods of references, of different ones


@dataclass(frozen=True, slots=True)
class Versus:
    """An evaluation against the control: over all tasks, by category, and by task, the largest gain first.

    ``likelihoods``: of the references, over all their tasks; none where one side has none or other ones were scored.
    """

    name: str
    pairing: Pairing
    overall: Group
    categories: tuple[Group, ...]
    tasks: tuple[TaskDifference, ...]
    likelihoods: tuple[LikelihoodDifference, ...] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """All evaluations against one control, under one metric."""

    control: str
    metric: str
    seed: int
    resamples: int
    against: tuple[Versus, ...]


def compare_evaluations(
    control: Evaluation,
    others: Sequence[Evaluation],
    metric: str = "rouge_l",
    seed: int = 0,
    *,
    resamples: int = RESAMPLES,
    allow_different: bool = False,
) -> Comparison:
    """Compares each of ``others`` with ``control``.

    ``metric``: rouge_l or exact_match for every task, or official, each category's own by the control's ``metrics``
    (ROUGE-L where it names none). Raises UsageError where two evaluations share no instance, hold one twice, or,
    unless ``allow_different``, where their settings differ; ValueError for an unknown metric.
    """
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {', '.join(METRICS)}, not {metric}")
    against = []
    for other in others:
        different, unsaid = settings_apart(control.settings, other.settings)
        if different and not allow_different:
            raise UsageError(_refusal(control.name, other.name, different))
        against.append(_versus(control, other, metric, seed, resamples, different, unsaid))
    return Comparison(control.name, metric, seed, resamples, tuple(against))


_LONGEST_VALUE = 80  # characters of a setting that are shown
# Whose answers they are, and how many of them: what a comparison is about, or what it copes with.
_NOT_PROTOCOL = frozenset({"model", "weights", "name", "instances", "tasks", "likelihood"})


def settings_apart(
    control: Mapping[str, Any], other: Mapping[str, Any]
) -> tuple[dict[str, tuple[Any, Any]], tuple[str, ...]]:
    """The settings that differ, as (control's, other's), and the names of those that only one of the two tells.

    The model's name and the number of instances are no differences: instances are matched one by one.
    """
    names = [name for name in dict.fromkeys([*control, *other]) if name not in _NOT_PROTOCOL]
    both = [name for name in names if name in control and name in other]
    different = {name: (control[name], other[name]) for name in both if control[name] != other[name]}
    return different, tuple(name for name in names if name not in both)


def told_apart(different: Mapping[str, tuple[Any, Any]]) -> str:
    """Differing settings on one line, their values as JSON."""
    shown = {
        name: [_clipped(json.dumps(v, ensure_ascii=False, default=str)) for v in different[name]] for name in different
    }
    return "; ".join(f"{name} {ours} against {theirs}" for name, (ours, theirs) in shown.items())


def _clipped(text: str) -> str:
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"


def _refusal(control: str, other: str, different: Mapping[str, tuple[Any, Any]]) -> str:
    return (
        f"{control} and {other} were not evaluated alike: {told_apart(different)}; "
        "evaluate one of them again, or compare them all the same with --allow-different"
    )


def _versus(
    control: Evaluation,
    other: Evaluation,
    metric: str,
    seed: int,
    resamples: int,
    different: dict[str, tuple[Any, Any]],
    unsaid: tuple[str, ...],
) -> Versus:
    ours, theirs = _by_instance(control), _by_instance(other)
    # In an order of their own, so that the files' order decides nothing.
    shared = sorted(key for key in ours if key in theirs)
    if not shared:
        raise UsageError(f"{control.name} and {other.name} have no instance in common: evaluate both on the same tasks")
    members: dict[str, list[tuple[Scored, Scored]]] = {}
    for key in shared:
        members.setdefault(key[0], []).append((ours[key], theirs[key]))
    tasks, bootstrap = _tasks(members, control.metrics, metric, seed, resamples)
    by_category: dict[str, list[int]] = {}
    for place, task in enumerate(tasks):
        by_category.setdefault(task.category, []).append(place)
    scored = [one for one in (control.likelihoods, other.likelihoods) if one is not None]
    both_scored = len(scored) == 2
    alike = both_scored and scored[0].questions == scored[1].questions
    pairing = Pairing(
        instances=len(shared),
        only_control=len(ours) - len(shared),
        only_other=len(theirs) - len(shared),
        missing_control=sum(ours[key].missing for key in shared),
        missing_other=sum(theirs[key].missing for key in shared),
        different=different,
        unsaid=unsaid,
        other_questions=both_scored and not alike,
    )
    return Versus(
        name=other.name,
        pairing=pairing,
        overall=_group("all", range(len(tasks)), tasks, bootstrap),
        categories=tuple(_group(name, places, tasks, bootstrap) for name, places in sorted(by_category.items())),
        tasks=tuple(sorted(tasks, key=lambda task: (-task.difference, task.name))),
        likelihoods=compare_likelihoods(scored[0], scored[1], seed) if alike else (),
    )


def _by_instance(evaluation: Evaluation) -> dict[tuple[str, str], Scored]:
    found: dict[tuple[str, str], Scored] = {}
    for number, row in enumerate(evaluation.rows, start=1):
        key = (row.task, row.id)
        if key in found:
            raise UsageError(
                f"{evaluation.name}, prediction {number}: the id {row.id!r} of {row.task} is used before; keep one of "
                "the two rows"
            )
        found[key] = row
    return found


def _tasks(
    members: Mapping[str, Sequence[tuple[Scored, Scored]]],
    official: Mapping[str, Metric],
    metric: str,
    seed: int,
    resamples: int,
) -> tuple[list[TaskDifference], TaskBootstrap]:
    """Each task's difference, and the resamples of all, by the same places."""
    names: list[Metric] = []
    scores: list[tuple[Floats, Floats]] = []
    for rows in members.values():
        used = _metric_of(rows[0][0].category, official, metric)
        names.append(used)
        scores.append((_scores([a for a, _ in rows], used), _scores([b for _, b in rows], used)))
    bootstrap = TaskBootstrap([b - a for a, b in scores], seed=seed, resamples=resamples)
    tasks = [
        TaskDifference(
            name=name,
            category=rows[0][0].category,
            metric=used,
            instances=len(rows),
            control=float(a.mean()),
            other=float(b.mean()),
            difference=mean_difference(b - a),
            interval=bootstrap.task(place),
        )
        for place, ((name, rows), used, (a, b)) in enumerate(zip(members.items(), names, scores, strict=True))
    ]
    return tasks, bootstrap


def _metric_of(category: str, official: Mapping[str, Metric], metric: str) -> Metric:
    if metric == "official":
        return official.get(category, "rouge_l")
    return "exact_match" if metric == "exact_match" else "rouge_l"


def _scores(rows: Sequence[Scored], metric: Metric) -> Floats:
    return np.array([row.rouge_l if metric == "rouge_l" else row.exact_match for row in rows], dtype=float)


def _group(name: str, places: Sequence[int], tasks: Sequence[TaskDifference], bootstrap: TaskBootstrap) -> Group:
    chosen = [tasks[place] for place in places]
    differences = np.array([task.difference for task in chosen])
    wins, losses = int((differences > 0).sum()), int((differences < 0).sum())
    intervals = bootstrap.group(places)
    return Group(
        name=name,
        tasks=len(chosen),
        wins=wins,
        ties=len(chosen) - wins - losses,
        losses=losses,
        control=float(np.mean([task.control for task in chosen])),
        other=float(np.mean([task.other for task in chosen])),
        share=_share(wins, len(chosen), intervals.share),
        share_decided=_share(wins, wins + losses, intervals.share_decided),
        difference=Mean(mean_difference(differences), intervals.difference),
        sign_p=sign_test(wins, losses),
        wilcoxon_p=wilcoxon_test(differences.tolist()),
    )


def _share(wins: int, count: int, bootstrap: Levels) -> Share:
    if not count:
        return Share(None, None, bootstrap)
    return Share(wins / count, wilson_interval(wins, count), bootstrap)
