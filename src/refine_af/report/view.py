"""From the report's data to the variables of the template: charts, tables and formatted numbers.

The template has no logic beyond "is it there": whatever has to be decided or worded is done before it.
"""

from __future__ import annotations

import json
import statistics
from typing import Any

from markupsafe import Markup

from refine_af.language import ENGLISH, Language
from refine_af.report.arms_view import arms_view
from refine_af.report.charts import FunnelRow, Series, bar_chart, funnel_chart, histogram, line_chart
from refine_af.report.contributions import Contributions
from refine_af.report.curves import Figure, component_figures, curve_figures, one_line, other_figures
from refine_af.report.data import Evaluation, Event, Funnel, HeldOut, Interval, Report, Stage, Task
from refine_af.report.numbers import number, signed
from refine_af.report.verbs import verb_objects
from refine_af.report.wording import (
    between,
    clean,
    clean_lines,
    difference,
    evaluation_conclusion,
    fit_conclusion,
    interval_note,
    minutes,
    moment,
    readable_note,
    references_conclusion,
    reward_conclusion,
    witness_conclusion,
    worded,
)


def view(report: Report, *, title: str, folder: str) -> dict[str, Any]:
    """The template's variables. Their texts are plain and escaped by the template; charts are markup."""
    return {
        "title": clean(title),
        "facts": _facts(report, folder),
        "big": _big_numbers(report),
        "arms": arms_view(report.arms),
        "funnels": _funnels(report),
        "unattributed": report.unattributed,
        "reward": _reward(report.held_out),
        "contributions": _contributions(report.contributions),
        "curves": curve_figures(report),
        "components": component_figures(report),
        "other_curves": other_figures(report),
        "loss": one_line("Fine-tuning loss", report.loss, "loss", "optimiser step"),
        "instructions": _instructions(report),
        "evaluation": _evaluation(report),
        "samples": [_sample(s) for s in report.samples],
        "settings": _settings(report),
        "events": [_event(e) for e in report.events],
        "stages": [_stage(s) for s in report.stages],
    }


def _facts(report: Report, folder: str) -> list[tuple[str, str]]:
    config = report.config or {}
    model = config.get("model")
    name = model.get("name") if isinstance(model, dict) else model
    versions = " · ".join(f"{package} {version}" for package, version in sorted(report.versions.items()))
    facts = [
        ("Run", folder),
        ("Model", "" if name is None else str(name)),
        ("Started", moment(report.created_at)),
        ("Seed", str(config.get("seed", ""))),
        ("Versions", versions),
    ]
    return [(label, clean(value)) for label, value in facts if value]


def _big_numbers(report: Report) -> list[tuple[str, str, str]]:
    """(label, value, note) of the five numbers that a reader looks for first; "–" for what is missing."""
    funnel, held, evaluation = report.instructions, report.held_out, report.evaluation
    selected = [(f.name, f.selected or 0) for f in report.instances]
    reward = held.interval if held else Interval(None, None, None, None, None)
    rouge = evaluation.rouge_l if evaluation else Interval(None, None, None, None, None)
    finished = [s.seconds for s in report.stages if s.seconds is not None]
    done = sum(s.status == "done" for s in report.stages)
    arrow = f"{rouge.before:.1f} → {rouge.after:.1f}" if rouge.before is not None and rouge.after is not None else "–"
    return [
        (
            "Instructions kept",
            number(funnel.kept if funnel else None),
            f"of {number(funnel.read)} read" if funnel else "",
        ),
        (
            "Selected pairs",
            number(sum(n for _, n in selected) if selected else None),
            ", ".join(f"{number(n)} by the {name} policy" for name, n in selected if n),
        ),
        ("Held-out reward", difference(reward), interval_note(reward)),
        ("ROUGE-L, base → tuned", arrow, interval_note(rouge)),
        (
            "Minutes",
            minutes(sum(finished)) if finished else "–",
            f"{done} of {len(report.stages)} started stages done",
        ),
    ]  # fmt: skip


def _funnel(funnel: Funnel, title: str, read: str) -> Figure:
    rows = [FunnelRow(read, funnel.read, "total")]
    rows += [FunnelRow(worded(reason), count, "drop") for reason, count in funnel.drops]
    rows.append(FunnelRow("kept", funnel.kept, "kept"))
    if funnel.selected is not None:
        rows.append(FunnelRow("selected", funnel.selected, "selected"))
    dropped = sum(count for _, count in funnel.drops)
    note = f"{number(funnel.read)} {read} = {number(funnel.kept)} kept + {number(dropped)} dropped"
    return {"title": title, "chart": funnel_chart(rows, title=title), "note": note}


def _funnels(report: Report) -> list[Figure]:
    figures = []
    if report.instructions:
        figures.append(_funnel(report.instructions, "Instructions", "read"))
    figures += [_funnel(f, f"Pairs of the {f.name} policy", "completions") for f in report.instances]
    return figures


def _reward(held: HeldOut | None) -> Figure | None:
    if held is None:
        return None
    before, after = [b for b, _ in held.pairs], [a for _, a in held.pairs]
    interval = held.interval
    marks = [
        (statistics.fmean(values), f"mean {name} {number(statistics.fmean(values))}")
        for name, values in (("before", before), ("after", after))
        if values
    ]
    rose = sum(a > b for b, a in held.pairs)
    same = sum(a == b for b, a in held.pairs)
    return {
        "before": number(interval.before),
        "after": number(interval.after),
        "difference": difference(interval),
        "between": between(interval),
        "conclusion": reward_conclusion(interval, len(held.pairs)),
        "readable": readable_note(held.readable, held.readable_reward),
        "fit": fit_conclusion(held.fit),
        "witness": witness_conclusion(held.witness),
        "counts": f"Of {len(held.pairs)}, {rose} rose, {same} stayed, {len(held.pairs) - rose - same} fell.",
        "distribution": histogram(
            [("before", before), ("after", after)], title="Held-out reward", x_label="reward", marks=marks
        ),
        "differences": histogram(
            [("after − before", [a - b for b, a in held.pairs])],
            title="Differences of the pairs",
            x_label="reward after − before",
            marks=[(0.0, "no change")] if held.pairs else [],
        ),
    }


def _contributions(found: Contributions | None) -> Figure | None:
    """Groups with their sizes, and rows of a share in each; the total is the mean reward, to which the rows add up."""
    if found is None:
        return None
    rows = [(clean(name), [signed(share) for share in shares]) for name, shares in found.shares.items()]
    rest = [
        # Less is but rounding; and 0 is added, since there is a -0 too.
        round(reward - sum(shares[place] or 0.0 for shares in found.shares.values()), 9) + 0.0
        for place, (_, _, reward) in enumerate(found.groups)
    ]
    if any(rest):
        rows.append(("offset, gates and floor", [signed(value) for value in rest]))
    return {
        "head": [(name, number(count)) for name, count, _ in found.groups],
        "rows": rows,
        "total": ("mean reward", [signed(reward) for _, _, reward in found.groups]),
    }


def _instructions(report: Report) -> Figure | None:
    rounds = [Series(name, report.rounds[name]) for name in ("read", "kept") if report.rounds.get(name)]
    if not report.texts and not rounds:
        return None
    language = Language((report.config or {}).get("language", ENGLISH.code))
    pairs = verb_objects(report.texts) if language.is_english else []
    counted = sum(n for _, _, n in pairs)
    rows: list[tuple[str, float]] = [(f"{verb} {obj}".strip(), n) for verb, obj, n in pairs[:20]]
    half, most = (len(rows) + 1) // 2, rows[0][1] if rows else 0.0
    words = [language.count(text) for text in report.texts]
    median = [(float(statistics.median(words)), f"median {number(statistics.median(words))}")] if words else []
    return {
        "verbs": [bar_chart(part, title="Verbs and objects", full=most) for part in (rows[:half], rows[half:]) if part],
        "verbs_note": f"Found by rules in {counted} of {len(report.texts)} texts; {len(pairs)} different."
        if language.is_english
        else "Found by rules of English, which this run's texts are not in.",
        "lengths": histogram(
            [("instructions", words)], title="Length of instructions", x_label="words", marks=median
        ),
        "rounds": line_chart(rounds, title="Yield by round", x_label="round", zero=True, wide=True),
        "seeds": f"{report.seeds[0]} seed tasks were shown to the generator, {report.seeds[1]} are held out.",
    }  # fmt: skip


def _task(task: Task) -> dict[str, str]:
    return {
        "instruction": clean(task.instruction),
        "input": clean(task.input),
        "reference": clean(task.reference),
        "base": "not answered yet" if task.base is None else clean(task.base),
        "tuned": "not answered yet" if task.tuned is None else clean(task.tuned),
        "base_rouge_l": number(task.base_rouge_l),
        "tuned_rouge_l": number(task.tuned_rouge_l),
        "difference": signed(task.difference),
    }


def _evaluation(report: Report) -> Figure | None:
    evaluation = report.evaluation
    if evaluation is None:
        return None
    decided = [t for t in evaluation.tasks if t.difference is not None]
    gains = [t for t in decided if (t.difference or 0) > 0][:5]
    falls = [t for t in reversed(decided) if (t.difference or 0) < 0][:5]
    wins, ties, losses = evaluation.outcomes or (None, None, None)
    return {
        "rows": [
            ("ROUGE-L", number(evaluation.rouge_l.before), number(evaluation.rouge_l.after)),
            ("Exact match", number(evaluation.exact_match[0]), number(evaluation.exact_match[1])),
            *_likelihoods(evaluation),
        ],
        "difference": difference(evaluation.rouge_l),
        "between": between(evaluation.rouge_l),
        "outcomes": f"{number(wins)} won, {number(ties)} tied, {number(losses)} lost",
        "conclusion": evaluation_conclusion(evaluation.rouge_l, len(decided)),
        "likelihoods": references_conclusion(evaluation.content, evaluation.margin),
        "differences": histogram(
            [("tasks", [t.difference or 0.0 for t in decided])],
            title="Differences of the tasks",
            x_label="ROUGE-L, tuned − base",
            marks=[(0.0, "no change")] if decided else [],
        ),
        "gains": [_task(t) for t in gains],
        "losses": [_task(t) for t in falls],
        "tasks": [_task(t) for t in evaluation.tasks],
    }


def _likelihoods(evaluation: Evaluation) -> list[tuple[str, str, str]]:
    """Of runs from before these were measured there are none."""
    named = [("Content, nats a token", evaluation.content), ("Margin, nats", evaluation.margin)]
    return [(name, number(one.before), number(one.after)) for name, one in named if one.before is not None]


def _sample(sample: Any) -> dict[str, Any]:
    return {
        "kind": sample.kind,
        "css": sample.kind.replace(" ", "-"),
        "origin": f"{sample.origin} policy" if sample.kind != "rejected" else f"{sample.origin} stage",
        "instruction": clean(sample.instruction),
        "input": clean(sample.input),
        "output": clean(sample.output),
        "reward": "" if sample.reward is None else number(sample.reward),
        "scores": [(clean(name), number(value)) for name, value in sample.scores],
        "reason": worded(sample.reason),
        "detail": clean(sample.detail),
    }


def _settings(report: Report) -> str:
    return "" if report.config is None else clean_lines(json.dumps(report.config, indent=2, ensure_ascii=False))


def _event(event: Event) -> dict[str, str]:
    return {"at": moment(event.at), "stage": event.stage, "kind": event.kind, "text": clean(event.text)}


def _stage(stage: Stage) -> list[str | Markup]:
    counts = [number(n) for n in (stage.read, stage.kept, stage.rejected, stage.failed)]
    return [stage.name, stage.status, *counts, "–" if stage.seconds is None else minutes(stage.seconds)]
