"""The paper's comparison, in its order: best-of-n's candidates, the arms' data sets, a training and an evaluation for
each, and what they say. Without arms there is nothing to do.

Units of work are a batch of candidates, all data sets, the steps between two checkpoints, and the tasks that an
evaluation asks at once. What is done leaves rows or files by which the next process knows it.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from refine_af.dataset.write import dataset_rows, write_dataset
from refine_af.environment import give_back_memory
from refine_af.errors import UsageError
from refine_af.evaluation.compare import Evaluation
from refine_af.evaluation.comparison_text import conclusion
from refine_af.evaluation.evaluate import Options, evaluate_subject
from refine_af.evaluation.folder import is_complete
from refine_af.evaluation.likelihood import REFERENCES
from refine_af.evaluation.subject import LocalSubject
from refine_af.evaluation.tasks import EvaluationTask, tasks_id
from refine_af.experiment.check import experiment_tasks
from refine_af.experiment.data import arm_instances, make_data_sets, sizes
from refine_af.experiment.judging import judge_arms
from refine_af.experiment.policies import across_policies, keep_across, told
from refine_af.experiment.results import (
    BASE,
    METRIC,
    compare_arms,
    keep_results,
    mean_scores,
    pool,
    pooled_arms,
    read_evaluations,
    results_json,
    trained_name,
)
from refine_af.files import write_text
from refine_af.records import StageCounts, derived_seed
from refine_af.stages.candidates import batches, save_batch
from refine_af.stages.context import Context, generated_instructions, seed_tasks
from refine_af.stages.finetune import tune
from refine_af.stages.pairs import PairWriter
from refine_af.stages.replicas import replica_arms
from refine_af.stages.team_engine import adapted_engine

STAGE = "arms"


def run_arms(context: Context) -> str:
    store, options = context.store, context.config.experiment
    if not options.arms:
        context.progress.begin(STAGE, None, "arms")
        store.finish_stage(STAGE, StageCounts())
        return "none to compare (experiment.arms)"
    tasks = _tasks(context)
    if options.takes_best_of_n:
        _write_candidates(context)
    _make_data_sets(context, tasks)
    made = sizes(context)
    _evaluate(context, tasks, BASE, None)
    for size in made:
        for seed in options.seeds:
            for arm in options.names:
                _train_and_evaluate(context, tasks, arm, size, seed)
    shutil.rmtree(context.folder / "checkpoints" / STAGE, ignore_errors=True)
    others = {seed: replica_arms(context, seed, run_arms) for seed in options.policy_seeds[1:]}
    return _compare(context, made, others)


def _folder(context: Context, name: str) -> Path:
    return context.folder / STAGE / name


def _tasks(context: Context) -> tuple[EvaluationTask, ...]:
    """The tasks, which must be the same in every process of the run: data sets and scores depend on them."""
    loaded = experiment_tasks(context.config, seed_tasks(context.store, "held_out"))
    for note in loaded.notes:
        context.progress.note(note)
    found, cursor = tasks_id(loaded.tasks), context.store.cursor(STAGE)
    if cursor.get("tasks", found) != found:
        raise UsageError(
            f"experiment.tasks: {context.config.experiment.tasks} has changed since this run began to use it; put the "
            "old tasks back, or start over with --fresh"
        )
    context.store.save_cursor(STAGE, **cursor | {"tasks": found})
    return loaded.tasks


def _write_candidates(context: Context) -> None:
    """As many completions of the initial policy as training sampled, beside the ones that it wrote before."""
    store, config = context.store, context.config
    instructions = generated_instructions(store)
    each = config.sampled_in_training(len(instructions))
    parts = list(batches(instructions, each, config.model.batch_size))
    cursor = store.cursor(STAGE)
    done = cursor.get("batches", 0)
    if done == len(parts):
        return
    context.progress.begin(f"{STAGE}: best_of_n's candidates", len(parts), "batches", done)
    writer = PairWriter(context)
    with adapted_engine(context.parts, context.team, None) as engine:
        for number in range(done, len(parts)):
            seed = derived_seed(config.seed, STAGE, "best_of_n", number)
            written = writer.write(engine, parts[number], config.instances.sampling, seed)
            with store.transaction():
                save_batch(context, STAGE, written, "best_of_n", engine.model)
                store.save_cursor(STAGE, **cursor | {"batches": number + 1, "completions": len(instructions) * each})
            kept = store.scalar("SELECT COUNT(*) FROM instances WHERE policy = 'best_of_n'")
            context.progress.update(number + 1, {"kept": str(kept)})


def _make_data_sets(context: Context, tasks: Sequence[EvaluationTask]) -> None:
    store, config = context.store, context.config
    cursor = store.cursor(STAGE)
    if "data_sets" not in cursor:
        judged = judge_arms(context)
        context.progress.begin(f"{STAGE}: data sets", None, "arms")
        with store.transaction():
            make_data_sets(context, tasks, judged)
            store.save_cursor(STAGE, **cursor | {"data_sets": True})
            there, asked = sizes(context)[-1], max(config.experiment.sizes, default=0)
            if there < asked:
                context.warn(
                    STAGE, f"{there} instructions have a pair in every arm, fewer than experiment.sizes asks for"
                )
    instructions = len(generated_instructions(store))
    for arm in config.experiment.arms:
        extra = config.sampled_in_training(instructions) if arm.policy == "best_of_n" else 0
        rows = dataset_rows(store, arm_instances(store, arm.name))
        write_dataset(rows, _folder(context, arm.name), config, config.instances.candidates + extra)


def _train_and_evaluate(context: Context, tasks: tuple[EvaluationTask, ...], arm: str, size: int, seed: int) -> None:
    name = trained_name(arm, size, seed)
    adapter = _folder(context, name) / "model"
    pairs = arm_instances(context.store, arm, size)
    # The seed's name is neither the arm's nor the size's: all begin at the same adapter and see places in one order.
    tune(context, pairs, adapter, derived_seed(context.config.seed, STAGE, "training", seed), f"{STAGE}/{name}")
    _evaluate(context, tasks, name, adapter)
    give_back_memory()


def _evaluate(context: Context, tasks: tuple[EvaluationTask, ...], name: str, adapter: Path | None) -> None:
    options, out = context.config.experiment, _folder(context, name) / "evaluation"
    if is_complete(out):
        return
    subject = LocalSubject(context.parts, adapter, options.prompt, name)
    asked = Options(
        options.shots,
        options.max_source,
        options.max_target,
        options.cut,
        options.instances,
        likelihood=REFERENCES if options.likelihood else None,
        language=context.config.reads,
    )
    evaluate_subject(subject, tasks, asked, out, context.progress, name=f"{STAGE}: evaluate {name}")


def _compare(context: Context, made: Sequence[int], others: Mapping[int, Sequence[Evaluation]]) -> str:
    store, config, options = context.store, context.config, context.config.experiment
    context.progress.begin(f"{STAGE}: compare", None, "arms")
    folder = context.folder / STAGE
    evaluations = read_evaluations(folder, options, made)
    compared = compare_arms(evaluations, options, made, config.seed, list(others.values()))
    policies = {0: pooled_arms(evaluations, options, made[-1]), **others}
    across = across_policies(policies) if others else []
    scores = {of[0].name: mean_scores(pool(of)) for of in zip(*policies.values(), strict=True)} if others else {}
    counts = {r["name"]: r["value"] for r in store.query("SELECT name, value FROM metrics WHERE stage = ?", STAGE)}
    write_text(folder / "comparison.json", results_json(options, counts, evaluations, compared, across))
    largest = next(one.comparison for one in reversed(compared) if one.seed is None and one.size == made[-1]
                   and one.comparison.control == options.names[0])  # fmt: skip
    sentences = [conclusion(versus, largest.control, metric=METRIC) for versus in largest.against]
    of_policies = told(across)
    with store.transaction():
        keep_results(store, evaluations, compared)
        keep_across(store, across, scores)
        for sentence in (*sentences, *of_policies):
            store.add_event(STAGE, "conclusion", sentence)
        store.finish_stage(STAGE, _counts(context))
    return " ".join(of_policies or sentences)


def _counts(context: Context) -> StageCounts:
    """Read are completions and the pairs that arms chose; kept are instances of best-of-n and rows of data sets."""
    store = context.store
    chosen = store.scalar("SELECT SUM(value) FROM metrics WHERE stage = ? AND name LIKE '%/chosen'", STAGE)
    read = int(chosen) + store.cursor(STAGE).get("completions", 0)
    kept = len(store.instances(policy="best_of_n")) + store.scalar("SELECT COUNT(*) FROM arm_rows")
    return StageCounts(read=read, kept=kept, rejected=store.rejected(STAGE))
