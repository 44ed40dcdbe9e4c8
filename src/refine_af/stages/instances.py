"""Writes the pairs: several candidates an instruction from the tuned policy, and as many from the initial one as
the control. They are read, filtered and scored; the best of each instruction are selected, and the data set written.

A batch of completions is one transaction, so that a killed run loses at most one batch.
"""

from __future__ import annotations

from refine_af.dataset.write import dataset_rows, write_dataset
from refine_af.errors import RefineError
from refine_af.evaluation.decontaminate import contaminated
from refine_af.evaluation.tasks import tasks_of_seeds
from refine_af.records import PolicyName, StageCounts, derived_seed
from refine_af.stages.candidates import (
    batches,
    by_instruction,
    contradiction,
    contradictory,
    matching,
    save_batch,
    select_best,
)
from refine_af.stages.context import Context, generated_instructions, seed_tasks
from refine_af.stages.pairs import PairWriter
from refine_af.stages.team_engine import adapted_engine

STAGE = "instances"


def run_instances(context: Context) -> str:
    store, config = context.store, context.config
    instructions = generated_instructions(store)
    adapter = context.folder / "policy"
    policies: tuple[PolicyName, ...] = ("initial", "tuned") if config.policy.trains else ("initial",)
    candidates = config.candidates(len(instructions))
    parts = list(batches(instructions, candidates, config.model.batch_size))
    done = store.cursor(STAGE).get("batches", 0)
    context.progress.begin(STAGE, len(parts) * len(policies), "batches", done)
    writer = PairWriter(context)
    for place, policy in enumerate(policies):
        first = max(0, done - place * len(parts))
        if first >= len(parts):
            continue
        with adapted_engine(context.parts, context.team, adapter if policy == "tuned" else None) as engine:
            for number in range(first, len(parts)):
                seed = derived_seed(config.seed, STAGE, policy, number)
                written = writer.write(engine, parts[number], config.instances.sampling, seed)
                done = place * len(parts) + number + 1
                with store.transaction():
                    save_batch(context, STAGE, written, policy, engine.model)
                    store.save_cursor(STAGE, batches=done)
                context.progress.update(done, _figures(context, policy))
    with store.transaction():
        for policy in policies:
            _drop_contaminated(context, policy)
            _drop_contradictions(context, policy)
        selected = select_best(
            store.instances(policy=policies[-1]), config.instances.per_instruction, config.instances.min_reward
        )
        store.select_instances(i.id for i in selected)
    if not selected:
        raise RefineError(
            "no instance was selected; `refine-af status` shows why pairs were rejected: "
            "try more candidates, longer completions, or a lower instances.min_reward"
        )
    rows = dataset_rows(store, store.instances(selected=True))
    write_dataset(rows, context.folder / "dataset", config, candidates)
    read = len(instructions) * candidates * len(policies)
    kept = sum(len(store.instances(policy=p)) for p in policies)
    store.finish_stage(STAGE, StageCounts(read=read, kept=kept, rejected=store.rejected(STAGE)))
    return f"{len(selected)} selected of {kept} readable pairs in {read} completions"


def _drop_contaminated(context: Context, policy: PolicyName) -> None:
    """Pairs that repeat a held-out seed's instruction or input, on which the run is evaluated. Instructions passed the
    novelty filter, which has all seeds in it; inputs were not looked at before."""
    store = context.store
    tasks = tasks_of_seeds(seed_tasks(store, "held_out"))
    texts = {i.id: i.text for i in store.instructions()}
    members = store.instances(policy=policy)
    found = contaminated([(texts[m.instruction_id], m.input) for m in members], tasks)
    store.delete_instances(members[one.row].id for one in found)
    store.add_rejections(
        matching(members[one.row], texts[members[one.row].instruction_id], STAGE, one, policy) for one in found
    )


def _drop_contradictions(context: Context, policy: PolicyName) -> None:
    """An instruction's pairs, all of them, where one input has different outputs."""
    store, usual = context.store, context.config.instances.candidates
    texts = {i.id: i.text for i in store.instructions()}
    for id, members in by_instruction(store.instances(policy=policy)).items():
        if (shared := contradiction(members, usual)) is not None:
            store.delete_instances(m.id for m in members)
            store.add_rejections(contradictory(m, texts[id], STAGE, shared) for m in members)


def _figures(context: Context, policy: PolicyName) -> dict[str, str]:
    store = context.store
    mean = store.scalar("SELECT AVG(reward) FROM instances WHERE policy = ?", policy)
    reasons = list(store.rejection_reasons(STAGE).items())[:3]
    return {
        "policy": policy,
        "reward": "–" if mean is None else f"{mean:.2f}",
        "dropped": ", ".join(f"{reason} {n}" for reason, n in reasons),
    }
