"""Whether what the arms of one trained policy show holds for another: policies are a sample too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from refine_af.evaluation.compare import Evaluation
from refine_af.evaluation.comparison_likelihood import FIGURES
from refine_af.evaluation.crossed import crossed_difference
from refine_af.store import Store

ROUGE_L = "rouge_l"
_TOLD = (ROUGE_L, "content", "margin")  # what a claim may stand on
_STAGE = "policies"
_SCORES = (ROUGE_L, "exact_match")
_KEPT = ("mean", "low", "high", "won", "lost", "tasks")


@dataclass(frozen=True, slots=True)
class AcrossPolicies:
    """What an arm has over the control in a figure: ROUGE-L in points, likelihoods in nats; of ``loss`` less is better.

    ``low`` and ``high``: 95 %, tasks and policies both being a sample. ``by_policy``: a policy's seed to its mean over
    tasks. A task is won or lost by its mean over the policies.
    """

    arm: str
    control: str
    figure: str
    tasks: int
    mean: float
    low: float
    high: float
    won: int
    lost: int
    by_policy: Mapping[int, float]


def across_policies(policies: Mapping[int, Sequence[Evaluation]]) -> list[AcrossPolicies]:
    """Each arm against the first, figure by figure. ``policies``: a policy's seed to its arms, the control's first."""
    found = []
    names = [one.name for one in next(iter(policies.values()))]
    for place, arm in enumerate(names[1:], 1):
        for figure in (ROUGE_L, *FIGURES):
            differences = {seed: _differences(arms[0], arms[place], figure) for seed, arms in policies.items()}
            if one := over_policies(arm, names[0], figure, differences):
                found.append(one)
    return found


def over_policies(
    arm: str, control: str, figure: str, differences: Mapping[int, Mapping[str, float]]
) -> AcrossPolicies | None:
    """Of an arm's differences from the control, by policy and task, what holds across policies; None where the policies
    share fewer than two tasks."""
    tasks = sorted(set.intersection(*(set(one) for one in differences.values())))
    if len(tasks) < 2:
        return None
    rows = [[one[task] for task in tasks] for one in differences.values()]
    crossed = crossed_difference(rows)
    better = -1 if figure == "loss" else 1
    means = [better * fmean(column) for column in zip(*rows, strict=True)]
    return AcrossPolicies(
        arm,
        control,
        figure,
        len(tasks),
        crossed.mean,
        crossed.low,
        crossed.high,
        won=sum(one > 0 for one in means),
        lost=sum(one < 0 for one in means),
        by_policy={seed: fmean(row) for seed, row in zip(differences, rows, strict=True)},
    )


def told(across: Sequence[AcrossPolicies]) -> list[str]:
    """A sentence for each arm, with what a claim may stand on."""
    arms = dict.fromkeys(one.arm for one in across)
    return [_sentence([one for one in across if one.arm == arm and one.figure in _TOLD]) for arm in arms]


def _sentence(figures: Sequence[AcrossPolicies]) -> str:
    first = figures[0]
    return (
        f"Across {len(first.by_policy)} policies, {first.arm} minus {first.control}, with 95 % intervals over tasks "
        f"and policies: {', '.join(map(_worded, figures))}."
    )


def _worded(one: AcrossPolicies) -> str:
    figure, unit, digits = ("ROUGE-L", "points", 1) if one.figure == ROUGE_L else (one.figure, "nats", 3)
    mean, low, high = (f"{value:+.{digits}f}" for value in (one.mean, one.low, one.high))
    return f"{figure} {mean} {unit} ({low} to {high}; {one.won} tasks won, {one.lost} lost)"


def keep_across(store: Store, across: Sequence[AcrossPolicies], scores: Mapping[str, Mapping[str, float]]) -> None:
    """Into the database as metrics of ``policies/<arm>``, in the caller's transaction: an arm's figures as step 0, and
    each policy's own mean as the step of its seed. ``scores``: each arm's, over all policies."""
    for one in across:
        stage = f"{_STAGE}/{one.arm}"
        store.add_metrics(stage, 0, {f"{one.figure}/{name}": getattr(one, name) for name in _KEPT})
        for seed, mean in one.by_policy.items():
            store.add_metrics(stage, seed, {f"{one.figure}/policy": mean})
    for arm, of_arm in scores.items():
        store.add_metrics(f"{_STAGE}/{arm}", 0, {f"score/{name}": of_arm[name] for name in _SCORES})


def read_scores(store: Store, names: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Each arm's ROUGE-L and exact match over all policies; none of a run with one policy."""
    found = {}
    for arm in names:
        values = [store.metric(f"{_STAGE}/{arm}", f"score/{name}") for name in _SCORES]
        if all(values):
            (rouge_l, exact_match) = (of[0][1] for of in values)
            found[arm] = (rouge_l, exact_match)
    return found


def read_across(store: Store, names: Sequence[str]) -> list[AcrossPolicies]:
    """What :func:`keep_across` has kept of the arms, whose control is the first; none of a run with one policy."""
    found = []
    for arm in names[1:]:
        rows = store.query("SELECT step, name, value FROM metrics WHERE stage = ? ORDER BY step", f"{_STAGE}/{arm}")
        whole = {row["name"]: row["value"] for row in rows if not row["name"].endswith("/policy")}
        for figure in (ROUGE_L, *FIGURES):
            if f"{figure}/mean" not in whole:
                continue
            mean, low, high, won, lost, tasks = (whole[f"{figure}/{name}"] for name in _KEPT)
            each = {row["step"]: row["value"] for row in rows if row["name"] == f"{figure}/policy"}
            counts = {"tasks": int(tasks), "won": int(won), "lost": int(lost)}
            found.append(AcrossPolicies(arm, names[0], figure, mean=mean, low=low, high=high, by_policy=each, **counts))
    return found


def _differences(control: Evaluation, arm: Evaluation, figure: str) -> dict[str, float]:
    """By task, of the tasks that both have it of."""
    ours, theirs = by_task(control, figure), by_task(arm, figure)
    return {task: theirs[task] - ours[task] for task in ours if task in theirs}


def by_task(evaluation: Evaluation, figure: str) -> dict[str, float]:
    """Each task's mean of ROUGE-L, or its ``figure`` of the likelihoods; of the tasks that have it."""
    if figure == ROUGE_L:
        scores: dict[str, list[float]] = {}
        for row in evaluation.rows:
            scores.setdefault(row.task, []).append(row.rouge_l)
        return {task: fmean(values) for task, values in scores.items()}
    known = evaluation.likelihoods
    return {} if known is None else {task: of[figure] for task, of in known.tasks.items() if figure in of}
