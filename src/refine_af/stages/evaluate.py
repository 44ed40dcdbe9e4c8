"""Asks the base and the tuned model the held-out seed tasks, greedily, scores the answers, and reads how likely either
model finds what people answered."""

from __future__ import annotations

import json
from statistics import fmean
from typing import Literal

from refine_af.config import SamplingConfig
from refine_af.engines.base import Engine, Prompts
from refine_af.evaluation.metrics import exact_match, rouge_l
from refine_af.evaluation.references import Measured, measured, of_seeds
from refine_af.evaluation.significance import paired_difference
from refine_af.files import write_text
from refine_af.prompts.answers import answer_frame, asked, cut_answer, scored_part
from refine_af.records import Prediction, SeedTask, StageCounts
from refine_af.stages.context import Context, seed_tasks

STAGE = "evaluate"
MODELS: tuple[Literal["base", "tuned"], ...] = ("base", "tuned")


def run_evaluate(context: Context) -> str:
    store = context.store
    tasks = seed_tasks(store, "held_out")
    if not tasks:
        context.warn(STAGE, "no seed task was held out (seeds.held_out), so nothing can be evaluated")
        store.finish_stage(STAGE, StageCounts())
        return "nothing to evaluate"
    done = _predictions(context)
    context.progress.begin(STAGE, len(tasks) * len(MODELS), "answers", len(done))
    questions = of_seeds(context.parts, tasks)
    found: list[Measured] = []
    for model in MODELS:
        adapter = context.folder / "model" if model == "tuned" else None
        with context.parts.adapted_engine(adapter) as engine:
            if any((model, t.id) not in done for t in tasks):
                _answer(context, engine, model, tasks)
            with context.parts.reading(engine, adapter) as reader:
                found.append(measured(reader, questions, by_task=False))
    summary = _summarise(context, tasks, _likelihoods(context, *found) if questions else {})
    count = len(_predictions(context))
    store.finish_stage(STAGE, StageCounts(read=len(tasks) * len(MODELS), kept=count))
    return summary


def _predictions(context: Context) -> dict[tuple[str, str], Prediction]:
    rows = context.store.query("SELECT * FROM predictions ORDER BY model, rowid")
    return {
        (r["model"], r["task_id"]): Prediction(
            r["model"], r["task_id"], r["prediction"], r["rouge_l"], r["exact_match"]
        )
        for r in rows
    }


def _answer(context: Context, engine: Engine, model: Literal["base", "tuned"], tasks: list[SeedTask]) -> None:
    """A model's answers come in batches of the engine's size; a batch is one transaction and always the same tasks."""
    config, size = context.config.evaluation, context.config.model.batch_size
    language = context.config.reads
    frame = answer_frame(context.parts.dialect)
    stop = scored_part(config.cut, *frame.stop)
    greedy = SamplingConfig(max_tokens=config.max_tokens, temperature=0)
    ordered = sorted(tasks, key=lambda t: (t.words(language), t.id))
    done = _predictions(context)
    for start in range(0, len(ordered), size):
        batch = ordered[start : start + size]
        if all((model, t.id) in done for t in batch):
            continue
        prompts = Prompts(frame.before, tuple(asked(t.instruction, t.input) + frame.after for t in batch))
        (answers,) = engine.generate([prompts], greedy, seed=0, stop=stop)
        rows = []
        for task, answer in zip(batch, answers, strict=True):
            text = cut_answer(answer.text, config.cut)
            right = [task.output]
            scores = rouge_l(text, right, language), exact_match(text, right, language)
            rows.append(Prediction(model, task.id, text, *scores))
        context.store.add_predictions(rows)
        count = len(_predictions(context))
        mean = context.store.scalar("SELECT AVG(rouge_l) FROM predictions WHERE model = ?", model)
        context.progress.update(count, {"model": model, "ROUGE-L": f"{mean:.1f}"})


def _likelihoods(context: Context, base: Measured, tuned: Measured) -> dict[str, float]:
    """Content and margin of both models, and their differences with intervals over the references."""
    figures: dict[str, float] = {}
    for name in ("content", "margin"):
        before, after = ([one[name] for one in model.values()] for model in (base, tuned))
        difference = paired_difference(before, after, seed=context.config.seed)
        figures |= {
            f"base_{name}": fmean(before),
            f"tuned_{name}": fmean(after),
            f"{name}_difference": difference.mean,
            f"{name}_difference_low": difference.low,
            f"{name}_difference_high": difference.high,
        }
    return {name: round(value, 4) for name, value in figures.items()}


def _summarise(context: Context, tasks: list[SeedTask], likelihoods: dict[str, float]) -> str:
    predictions = _predictions(context)
    columns = {m: [predictions[m, t.id] for t in tasks] for m in MODELS}
    base, tuned = ([p.rouge_l for p in columns[m]] for m in MODELS)
    difference = paired_difference(base, tuned, seed=context.config.seed)
    figures: dict[str, float] = {}
    for model in MODELS:
        figures[f"{model}_rouge_l"] = sum(p.rouge_l for p in columns[model]) / len(tasks)
        figures[f"{model}_exact_match"] = sum(p.exact_match for p in columns[model]) / len(tasks)
    figures |= {
        "difference": difference.mean,
        "difference_low": difference.low,
        "difference_high": difference.high,
        "wins": sum(t > b for b, t in zip(base, tuned, strict=True)),
        "losses": sum(t < b for b, t in zip(base, tuned, strict=True)),
        "ties": sum(t == b for b, t in zip(base, tuned, strict=True)),
        **likelihoods,
    }
    with context.store.transaction():
        context.store.add_metrics(STAGE, 0, figures)
    _write_files(context, tasks, columns, figures)
    return (
        f"ROUGE-L {figures['base_rouge_l']:.1f} base, {figures['tuned_rouge_l']:.1f} tuned "
        f"({difference.mean:+.1f}, 95 % interval {difference.low:+.1f} to {difference.high:+.1f}) "
        f"on {len(tasks)} held-out tasks"
    )


def _write_files(
    context: Context,
    tasks: list[SeedTask],
    columns: dict[Literal["base", "tuned"], list[Prediction]],
    figures: dict[str, float],
) -> None:
    folder = context.folder / "evaluation"
    folder.mkdir(exist_ok=True)
    for model in MODELS:
        lines = [
            json.dumps(
                {
                    "id": task.id,
                    "instruction": task.instruction,
                    "input": task.input,
                    "reference": task.output,
                    "prediction": one.prediction,
                    "rouge_l": one.rouge_l,
                    "exact_match": one.exact_match,
                },
                ensure_ascii=False,
            )
            for task, one in zip(tasks, columns[model], strict=True)
        ]
        write_text(folder / f"{model}.jsonl", "\n".join(lines) + "\n")
    settings = {
        "shots": 0,
        "decoding": "greedy",
        "chat_template": context.parts.dialect.is_chat,
        "tokenization": context.config.reads.tokenization,
        **context.config.evaluation.model_dump(),
    }
    write_text(folder / "scores.json", json.dumps({**figures, "settings": settings}, indent=2) + "\n")
