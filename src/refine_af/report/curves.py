"""The curves of the policy's training: which metrics are drawn together, in which order, and what is said of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from refine_af.report.charts import Series, line_chart
from refine_af.report.data import Report
from refine_af.report.numbers import signed
from refine_af.report.wording import clean, worded

Figure = dict[str, Any]  # title, chart, note

# Title, the metrics drawn together, the note under the chart. The order is the page's.
_CURVES: tuple[tuple[str, tuple[tuple[str, str], ...], str], ...] = (
    (
        "Reward",
        (("reward_mean", "mean"),),
        "Mean of an iteration's sound pairs; the band is one standard deviation.",
    ),
    (
        "Held-out reward gained",
        (("check/gain", "gain"),),
        "Of sound pairs to instructions that are not trained on, against the initial policy; the band is the 95 % "
        "interval.",
    ),
    (
        "Witness gained",
        (("check/witness_gain", "gain"),),
        "A scorer that is no part of the reward: where it falls while the reward rises, the reward is gamed.",
    ),
    (
        "KL to the initial policy",
        (("kl", "k1"), ("kl_k3", "k3")),
        "Nats a response: how far the policy has moved, by two estimates of one mean.",
    ),
    ("KL coefficient", (("kl_coef", "coefficient"),), "Weight of the KL penalty, set by the controller."),
    (
        "Engine against trainer",
        (("mismatch_kl", "KL"),),
        "Nats a token between what sampled the responses and what learns from them.",
    ),
    ("Importance weight", (("importance_weight", "weight"),), "Mean of the truncated weights that correct for it."),
    ("Entropy", (("entropy", "entropy"),), "Nats a token; a fall to zero is a collapse."),
    ("Clipped share", (("clip_share", "share"),), "Tokens whose probability ratio was clipped; with RLOO, responses."),
    ("Policy loss", (("policy_loss", "loss"),), "The clipped surrogate; with GRPO its KL penalty, too."),
    ("Value loss", (("value_loss", "loss"),), "Squared error of the critic."),
    (
        "Explained variance",
        (("explained_variance", "share"),),
        "1: the critic foresees the return; 0 or less: no use.",
    ),
    ("Response length", (("response_tokens", "tokens"),), "Tokens a response, mean."),
    (
        "Well-formed responses",
        (("ended_share", "ended"), ("parsed_share", "sound")),
        "Shares with an end, and with a sound pair.",
    ),
    (
        "Diversity",
        (("distinct_2", "distinct-2"),),
        "Different word pairs over all word pairs of an iteration.",
    ),
)


def one_line(title: str, points: Sequence[tuple[int, float]], name: str, x_label: str, note: str = "") -> Figure | None:
    if not points:
        return None
    return {
        "title": title,
        "chart": line_chart([Series(name, points)], title=title, x_label=x_label),
        "note": note,
    }


def curve_figures(report: Report) -> list[Figure]:
    figures = []
    for title, metrics, note in _CURVES:
        lines = [Series(label, report.curves[name]) for name, label in metrics if report.curves.get(name)]
        if not lines:
            continue
        if metrics[0][0] == "reward_mean":
            lines = [_with_deviation(lines[0], dict(report.curves.get("reward_std", [])))]
        ends = [report.curves.get(f"{metrics[0][0]}_{end}") for end in ("low", "high")]
        if ends[0] and ends[1]:
            lines = [_with_interval(lines[0], dict(ends[0]), dict(ends[1]))]
        figures.append({"title": title, "chart": line_chart(lines, title=title, x_label="iteration"), "note": note})
    return figures


def _with_deviation(line: Series, deviation: dict[float, float]) -> Series:
    band = [(y - deviation.get(x, 0.0), y + deviation.get(x, 0.0)) for x, y in line.points]
    return Series(line.name, line.points, band if deviation else ())


def _with_interval(line: Series, low: dict[float, float], high: dict[float, float]) -> Series:
    return Series(line.name, line.points, [(low.get(x, y), high.get(x, y)) for x, y in line.points])


def component_figures(report: Report) -> list[Figure]:
    figures = []
    for name, points in report.curves.items():
        if name.startswith("component/"):
            name = name.removeprefix("component/")
            share = dict(report.curves.get(f"share/{name}", ()))
            note = f"Adds {signed(share[points[-1][0]])} to the last mean reward." if points[-1][0] in share else ""
            line = _with_deviation(Series(name, points), dict(report.curves.get(f"component_std/{name}", ())))
            chart = line_chart([line], title=clean(name), x_label="iteration")
            figures.append({"title": clean(name), "chart": chart, "note": note})
    return figures


def other_figures(report: Report) -> list[Figure]:
    known = {name for _, metrics, _ in _CURVES for name, _ in metrics} | {"reward_std"}
    parts = ("component/", "component_std/", "share/", "check/")
    rest = [(n, p) for n, p in report.curves.items() if n not in known and not n.startswith(parts)]
    return [figure for name, points in rest if (figure := one_line(worded(name), points, name, "iteration"))]
