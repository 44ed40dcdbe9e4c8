"""What a comparison allows to say: one sentence that concludes, and notes on what weakens it.

A side is named better only where the exact sign test says so (p under 0.05); with ties alone, or with fewer than six
decided tasks, on which that test can't reach 0.05, nothing is concluded.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Literal

from refine_af.evaluation.bootstrap import FEWEST
from refine_af.evaluation.compare import Comparison, Group, Pairing, Versus, told_apart
from refine_af.evaluation.comparison_likelihood import CANT_SHOW, OTHER_QUESTIONS
from refine_af.evaluation.significance import Interval
from refine_af.report.numbers import number
from refine_af.report.wording import clean

Verdict = Literal["win", "loss", "undecided", "too few", "ties"]
_LIKELY = 0.05
_ENOUGH = 20  # tasks from which the bootstrap holds about what it says (tests/evaluation/test_coverage.py)
_LIMITS = "by how much, and whether so on other kinds of tasks or after training with another seed, this does not say"


def verdict(group: Group) -> Verdict:
    """What the counts of wins and losses allow to conclude about the other side."""
    if not group.decided:
        return "ties"
    if group.decided < FEWEST:
        return "too few"
    if group.sign_p >= _LIKELY:
        return "undecided"
    return "win" if group.wins > group.losses else "loss"


def conclusion(versus: Versus, control: str, *, metric: str) -> str:
    """The sentence that says what can and what can't be concluded from all tasks."""
    group, ours, theirs = versus.overall, clean(control), clean(versus.name)
    found = verdict(group)
    if found == "ties":
        tasks = "the one task" if group.tasks == 1 else f"all {group.tasks:,} tasks"
        return (
            f"{theirs} and {ours} score the same on {tasks}, so nothing can be concluded, "
            "neither that one is better nor that they answer alike elsewhere."
        )
    if found == "too few":
        return (
            f"{theirs} scores higher than {ours} on {group.wins} and lower on {group.losses} of {_tasks(group.tasks)}: "
            f"too few are decided to conclude anything, since a sign test needs {FEWEST} or more."
        )
    share = group.share_decided
    seen = (
        f"{theirs} scores higher than {ours} in {metric_name(metric)} on {percent(share.value)} of the decided tasks "
        f"({group.wins} of {group.decided}; {_ties(group.ties)}), 95 % interval {percents(share.wilson)}"
    )
    chance = f"sign test p {p_value(group.sign_p)}"
    if found == "undecided":
        return f"{seen}, {chance}: {_undecided(group)}"
    way = "more" if found == "win" else "less"
    return f"{seen}, which excludes 50 %, {chance}: on tasks like these it wins {way} often than it loses; {_LIMITS}."


def _undecided(group: Group) -> str:
    low, high = group.share_decided.wilson or (0.0, 1.0)
    unshown = "that one is better on more tasks is not shown, and neither is it that they are equal."
    if low <= 0.5 <= high:
        return f"the interval contains 50 %, so {unshown}"
    return f"the interval excludes 50 %, but the exact test doesn't exclude chance, so {unshown}"


def notes(versus: Versus, comparison: Comparison) -> list[str]:
    """Sentences on the size of the difference and on what the conclusion depends on, where there is such a thing."""
    group = versus.overall
    found = [_size(group, comparison.metric)]
    nested = group.share_decided.bootstrap.instances
    if verdict(group) in ("win", "loss") and nested and _contains(nested, 0.5):
        found.append(
            f"With the tasks' instances drawn anew as well, the share's interval is {percents(nested)} and contains "
            "50 %: more instances for each task would tell more."
        )
    drawn_anew = group.share.bootstrap.instances
    if drawn_anew and group.share.value is not None and not _contains(drawn_anew, group.share.value):
        found.append(
            f"With instances drawn anew fewer or more tasks are won ({percents(drawn_anew)} of all) than were seen "
            f"({percent(group.share.value)}): single instances decide many of them."
        )
    if FEWEST <= group.tasks < _ENOUGH:
        found.append(
            f"On {group.tasks} tasks the bootstrap's intervals are too narrow (on ten tasks they hold the truth nine "
            "times in ten, not 95 times in 100); Wilson's is not."
        )
    if len(comparison.against) > 1:
        found.append(
            f"This is one of {len(comparison.against)} comparisons with the same control; the p-values are not "
            "corrected for their number."
        )
    if versus.likelihoods:
        found.append(CANT_SHOW)
    return [clean(note) for note in (*found, *_pairing(versus.pairing)) if note]


def _pairing(pairing: Pairing) -> list[str]:
    """What was left out of the comparison, and what makes the two sides unlike."""
    found = []
    left_out = pairing.only_control + pairing.only_other
    if left_out:
        found.append(
            f"Left out, since one side alone has them: {_instances(left_out)} "
            f"({pairing.only_control:,} of the control, {pairing.only_other:,} of the other)."
        )
    if pairing.missing_control or pairing.missing_other:
        found.append(
            f"Without a prediction, and scored 0: {_instances(pairing.missing_control)} of the control, "
            f"{pairing.missing_other:,} of the other."
        )
    if pairing.different:
        found.append(f"Not evaluated alike: {told_apart(pairing.different)}. The difference may come from that alone.")
    if pairing.other_questions:
        found.append(OTHER_QUESTIONS)
    if pairing.unsaid:
        found.append(f"Told by one side alone, so not checked: {', '.join(pairing.unsaid)}.")
    return found


def as_dict(comparison: Comparison) -> dict[str, Any]:
    """A comparison for JSON: its fields, each task's outcome, verdict, conclusion and notes; no number is NaN."""
    found = asdict(comparison)
    for versus, shown in zip(comparison.against, found["against"], strict=True):
        for task, row in zip(versus.tasks, shown["tasks"], strict=True):
            row["outcome"] = task.outcome
        shown["verdict"] = verdict(versus.overall)
        shown["conclusion"] = conclusion(versus, comparison.control, metric=comparison.metric)
        shown["notes"] = notes(versus, comparison)
    return found


def _size(group: Group, metric: str) -> str:
    """What the mean difference adds to the count of wins; "" where all tasks tie."""
    if not group.decided:
        return ""
    told = f"The mean difference over tasks is {points(group.difference.value)} points of {metric_name(metric)}"
    interval = group.difference.bootstrap.tasks
    if interval is None:
        return f"{told}, on too few tasks for an interval."
    told = f"{told}, 95 % interval {between(interval)}"
    found, way = verdict(group), 0 if _contains(interval, 0.0) else 1 if interval[0] > 0 else -1
    if way == 0:
        return f"{told}, which contains zero."
    if found in ("win", "loss") and way != (1 if found == "win" else -1):
        return f"{told}: the rarer outcome outweighs the more frequent one."
    if found == "undecided":
        return f"{told}, which excludes zero, though the count of tasks decides nothing."
    return f"{told}, which excludes zero."


def _contains(interval: Interval, value: float) -> bool:
    return interval[0] <= value <= interval[1]


# -- figures -----------------------------------------------------------------------------------------------


def metric_name(metric: str) -> str:
    return {"rouge_l": "ROUGE-L", "exact_match": "exact match"}.get(metric, "each category's metric")


def percent(share: float | None) -> str:
    """A share in whole per cents, with decimals where it would else read as none, half or all and is not."""
    if share is None:
        return number(None)
    value = 100 * share
    exact = value in (0, 50, 100)
    places = 0 if exact else next((p for p in range(4) if round(value, p) not in (0, 50, 100)), 4)
    return f"{value:.{places}f} %"


def points(value: float | None) -> str:
    """A difference with its sign and two decimals; a small one with a digit, so that it does not read as none."""
    if value is None or value == 0:
        return number(value)
    return (f"{value:+.2f}" if abs(value) >= 0.005 else f"{value:+.1g}").replace("-", "−")


def nats(value: float) -> str:
    """A difference in nats, with its sign and three decimals."""
    return f"{value:+.3f}".replace("-", "−")


def p_value(p: float) -> str:
    """With its sign of equality: "= 0.031" or "< 0.001"."""
    if p < 0.001:
        return "< 0.001"
    return f"= {p:.{3 if p < 0.1 else 2}f}"


def percents(interval: Interval | None) -> str:
    """An interval of a share: "38 to 57 %"; "–" for none."""
    return number(None) if interval is None else f"{percent(interval[0]).removesuffix(' %')} to {percent(interval[1])}"


def between(interval: Interval | None) -> str:
    """An interval of a difference: "−0.40 to +2.10"; "–" for none."""
    return number(None) if interval is None else f"{points(interval[0])} to {points(interval[1])}"


def _ties(count: int) -> str:
    return {0: "no ties", 1: "1 tie apart"}.get(count, f"{count:,} ties apart")


def _tasks(count: int) -> str:
    return "1 task" if count == 1 else f"{count:,} tasks"


def _instances(count: int) -> str:
    return "1 instance" if count == 1 else f"{count:,} instances"
