"""From a run's arms to the variables of the report's first section: the paper's table, what it allows to say, scores,
and charts. Words and figures of a comparison are those of `refine-af compare`."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from refine_af.evaluation.compare import Comparison, Group, Versus
from refine_af.evaluation.comparison_chart import difference_chart
from refine_af.evaluation.comparison_text import (
    between,
    conclusion,
    metric_name,
    notes,
    p_value,
    percent,
    percents,
    points,
)
from refine_af.experiment.policies import ROUGE_L, AcrossPolicies
from refine_af.report.arms import BASE, Arms
from refine_af.report.charts import Series, line_chart
from refine_af.report.numbers import number
from refine_af.report.wording import clean

_FEW_TASKS = 40  # up to as many the chart of all tasks is open
_TITLES = {
    "initial": "initial policy",
    "tuned": "tuned policy",
    "best_of_n": "best-of-n",
    "self_instruct": "initial policy without feedback",
    "tuned_first": "tuned policy without choosing",
    "shortest": "initial policy, the shortest answers",
    "shuffled": "nonsense: the tuned policy's answers shuffled",
    "last_word": "nonsense: the tuned policy's last words",
    BASE: "base model",
}


def _title(name: str) -> str:
    """Of an arm; one that a user has named is called by that name."""
    return _TITLES.get(name) or clean(name)


_FIGURES = {
    ROUGE_L: "ROUGE-L, points",
    "content": "Content, nats",
    "margin": "Margin, nats",
    "end": "End, nats",
    "loss": "Loss, nats (less is better)",
}

Cell = tuple[str, str]  # a figure, and what stands small below it


def arms_view(arms: Arms | None) -> dict[str, Any] | None:
    """The template's variables for the section; None where there is nothing to show."""
    if arms is None:
        return None
    control = arms.names[0]
    main = arms.pooled(control)
    return {
        "heading": "Did reinforcement learning make the better data?"
        if arms.learnt
        else "Which data set is the better one?",
        "intro": _intro(arms, main),
        "data": _data(arms),
        "columns": _COLUMNS,
        "control": _title(control),
        "figures": _figures(main.against),
        "said": [
            (conclusion(versus, main.control, metric=main.metric), notes(versus, main)) for versus in main.against
        ],
        "categories": [_categories(versus, control) for versus in main.against if len(versus.categories) > 1],
        "scores": _scores(arms),
        "chart": difference_chart(main),
        "few": main.against[0].overall.tasks <= _FEW_TASKS,
        "curve": _curve(arms) if len(arms.sizes) > 1 else None,
        "seeds": _seeds(arms) if len(arms.seeds) > 1 else None,
        "across": _across(arms) if arms.across else None,
    }


def _intro(arms: Arms, main: Comparison) -> str:
    seeds = f", with each of {len(arms.seeds)} seeds" if len(arms.seeds) > 1 else ""
    policies = len(arms.across[0].by_policy) if arms.across else 1
    seeds += f", for each of {policies} policies" if policies > 1 else ""
    pooled = " An instance's score is its mean over these trainings." if seeds else ""
    return (
        f"The base model was tuned on a data set of {arms.sizes[-1]:,} instructions for each arm: the same "
        f"instructions, as many pairs, the same steps{seeds}. A task counts as improved where its mean "
        f"{metric_name(main.metric)} is higher than that of the control, the {_title(arms.names[0])}. "
        f"{main.against[0].overall.tasks} tasks, {arms.instances:,} instances.{pooled}"
    )


def _data(arms: Arms) -> str:
    shared = ", ".join(f"{_title(name)} {arms.counts[f'{name}/shared']}" for name in arms.names[1:])
    contaminated = ", ".join(f"{_title(name)} {arms.counts[f'{name}/contaminated']}" for name in arms.names)
    return (
        f"{arms.counts['instructions']:,} instructions have a pair in every arm; {arms.counts['left_out']:,} are left "
        f"out of all, since some arm has none. Pairs dropped because they match a text of the evaluation: "
        f"{contaminated}. Pairs that the control's data set has too: {shared}."
    )


_COLUMNS = ("Tasks improved, of all", "Of the decided", "Won, tied, lost", "Mean difference", "Sign test", "Wilcoxon")


def _figures(against: Sequence[Versus]) -> list[tuple[str, list[Cell]]]:
    """The paper's table: a row for each arm, whose cells are those of :data:`_COLUMNS`."""
    return [
        (
            _title(versus.name),
            [
                _share(group, decided=False),
                _share(group, decided=True),
                (_outcomes(group), ""),
                _difference(group),
                (f"p {p_value(group.sign_p)}", ""),
                (f"p {p_value(group.wilcoxon_p)}", ""),
            ],
        )
        for versus in against
        for group in (versus.overall,)
    ]


def _outcomes(group: Group) -> str:
    return f"{group.wins}/{group.ties}/{group.losses}"


def _share(group: Group, *, decided: bool) -> Cell:
    share = group.share_decided if decided else group.share
    return percent(share.value), percents(share.wilson)


def _difference(group: Group) -> Cell:
    return points(group.difference.value), between(group.difference.bootstrap.tasks)


def _categories(versus: Versus, control: str) -> dict[str, Any]:
    rows = [
        (
            clean(group.name) or "(none)",
            [
                (_outcomes(group), ""),
                _share(group, decided=False),
                _share(group, decided=True),
                _difference(group),
            ],
        )
        for group in versus.categories
    ]
    return {"title": f"{_title(versus.name)} against {_title(control)}", "rows": rows}


def _scores(arms: Arms) -> list[tuple[str, list[Cell]]]:
    """ROUGE-L, exact match and the difference to the base, of base and arms at the largest size."""
    base = arms.pooled(BASE)
    rouge_l, exact = arms.scores[BASE, 0, 0]
    rows: list[tuple[str, list[Cell]]] = [(_title(BASE), [(f"{rouge_l:.2f}", ""), (f"{exact:.2f}", ""), ("", "")])]
    for versus in base.against:
        found = [arms.pooled_scores[versus.name]] if arms.across else _of_seeds(arms, versus.name, arms.sizes[-1])
        means = [(f"{fmean(values):.2f}", "") for values in zip(*found, strict=True)]
        rows.append((_title(versus.name), [*means, _difference(versus.overall)]))
    return rows


def _of_seeds(arms: Arms, name: str, size: int) -> list[tuple[float, float]]:
    return [arms.scores[name, size, seed] for seed in arms.seeds]


def _curve(arms: Arms) -> Any:
    """ROUGE-L over the size of the data set; the band is the range of the seeds."""
    lines = []
    for name in arms.names:
        values = [[rouge_l for rouge_l, _ in _of_seeds(arms, name, size)] for size in arms.sizes]
        lines.append(
            Series(
                name,
                [(size, fmean(found)) for size, found in zip(arms.sizes, values, strict=True)],
                [(min(found), max(found)) for found in values] if len(arms.seeds) > 1 else (),
            )
        )
    flat = arms.scores[BASE, 0, 0][0]
    lines.append(Series(BASE, [(size, flat) for size in arms.sizes]))
    return line_chart(lines, title="Score over data size", x_label="instructions in the data set", wide=True)


def _across(arms: Arms) -> dict[str, Any]:
    """What each arm has over the control, figure by figure, with intervals over tasks and policies."""
    figures = list(dict.fromkeys(one.figure for one in arms.across))
    rows = []
    for name in arms.names[1:]:
        of_arm = {one.figure: one for one in arms.across if one.arm == name}
        rows.append((_title(name), [_held(of_arm[one]) if one in of_arm else ("", "") for one in figures]))
    policies = len(arms.across[0].by_policy)
    return {"policies": policies, "columns": [_FIGURES[one] for one in figures], "rows": rows}


def _held(one: AcrossPolicies) -> Cell:
    digits = 1 if one.figure == ROUGE_L else 3

    def shown(value: float) -> str:
        return f"{value:+.{digits}f}".replace("-", "−")

    each = ", ".join(map(shown, one.by_policy.values()))
    return shown(one.mean), f"{shown(one.low)} to {shown(one.high)}; {one.won} won, {one.lost} lost; each: {each}"


def _seeds(arms: Arms) -> dict[str, Any]:
    """Each seed's scores and its share of decided tasks; the last row is the range of the scores."""
    size = arms.sizes[-1]
    scores = {name: [rouge_l for rouge_l, _ in _of_seeds(arms, name, size)] for name in arms.names}
    rows = []
    for place, seed in enumerate(arms.seeds):
        compared = next(c.comparison for c in arms.comparisons if (c.size, c.seed) == (size, seed))
        shares = [(percent(v.overall.share_decided.value), _outcomes(v.overall)) for v in compared.against]
        rows.append((str(seed), [*((f"{scores[name][place]:.2f}", "") for name in arms.names), *shares]))
    spread = [(number(max(values) - min(values)), "") for values in scores.values()]
    rows.append(("range", [*spread, *[("", "")] * (len(arms.names) - 1)]))
    head = [f"ROUGE-L, {_title(name)}" for name in arms.names]
    return {"head": [*head, *(f"decided tasks won, {_title(name)}" for name in arms.names[1:])], "rows": rows}
