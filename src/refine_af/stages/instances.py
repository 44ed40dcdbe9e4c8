"""Writes the pairs: several candidates an instruction from the tuned policy, and as many from the initial one as
the control. They are read, filtered and scored; the best of each instruction are selected, and the data set written.

A batch of completions is one transaction, so that a killed run loses at most one batch.
"""

from __future__ import annotations

from refine_af.dataset.write import dataset_rows, write_dataset
from refine_af.errors import RefineError
from refine_af.evaluation.decontaminate import contaminated
from refine_af.evaluation.tasks import tasks_of_seeds
from refine_af.filters import COPIED, HOLLOW, TOPIC
from refine_af.records import PolicyName, StageCounts, derived_seed
from refine_af.stages.candidates import CONTAMINATED, DUPLICATE, batches, matching, save_batch, select_best
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
                batch = writer.write(engine, parts[number], config.instances.sampling, seed)
                done = place * len(parts) + number + 1
                with store.transaction():
                    save_batch(context, STAGE, batch, policy, engine.model)
                    store.save_cursor(STAGE, batches=done)
                context.progress.update(done, _figures(context, policy))
    with store.transaction():
        for policy in policies:
            _drop_contaminated(context, policy)
        written = store.instances(policy=policies[-1])
        selected = select_best(written, config.instances.per_instruction, config.instances.min_reward)
        store.select_instances(i.id for i in selected)
        left_out = len(instructions) - len({i.instruction_id for i in selected})
        unsound = sum(not i.sound for i in written)
        store.add_metrics(STAGE, 0, {"instructions_without_a_pair": left_out, "unsound": unsound})
    if not selected:
        raise RefineError(_nothing_left(context, len(written), unsound))
    if left_out:
        context.progress.note(f"{STAGE}: {left_out} instructions got no usable pair; left out")
    rows = dataset_rows(store, store.instances(selected=True))
    write_dataset(rows, context.folder / "dataset", config, candidates)
    read = len(instructions) * candidates * len(policies)
    kept = sum(len(store.instances(policy=p)) for p in policies)
    store.finish_stage(STAGE, StageCounts(read=read, kept=kept, rejected=store.rejected(STAGE)))
    return f"{len(selected)} selected of {kept} readable pairs in {read} that were written"


_CURES = {
    "cut by length": "raise instances.sampling.max_tokens",
    HOLLOW: "set instances.inputs to auto or always",
    COPIED: "bring more seeds, or lower instances.demonstrations",
    TOPIC: "bring more seeds, or lower instances.demonstrations",
    CONTAMINATED: "bring seeds that are less alike, or lower seeds.held_out",
    "unsound": "use a larger model.name, more instances.candidates, or another feedback.name",
    "min_reward": "lower instances.min_reward",
}


def _nothing_left(context: Context, kept: int, unsound: int) -> str:
    """Which rule took most, and what to change. Of duplicates one was kept, and fell to another rule."""
    taken = context.store.rejection_reasons(STAGE) | {"unsound": unsound, "min_reward": kept - unsound}
    taken.pop(DUPLICATE, None)
    rule, count = max(taken.items(), key=lambda item: item[1])
    words = {
        "unsound": f"the reward judged {count} unusable",
        "min_reward": f"{count} are below instances.min_reward",
    }
    cure = _CURES.get(rule, "use a larger model.name, or more instances.candidates")
    return f"no pair was selected; main reason: {words.get(rule, f'{count} fell to the rule {rule!r}')}: {cure}"


def _drop_contaminated(context: Context, policy: PolicyName) -> None:
    """Pairs that repeat a held-out seed's instruction or input, on which the run is evaluated. Instructions passed the
    novelty filter, which has all seeds in it; inputs were not looked at before."""
    store = context.store
    tasks = tasks_of_seeds(seed_tasks(store, "held_out"))
    texts = {i.id: i.text for i in store.instructions()}
    members = store.instances(policy=policy)
    pairs = [(texts[m.instruction_id], m.input) for m in members]
    found = contaminated(pairs, tasks, language=context.config.reads)
    store.delete_instances(members[one.row].id for one in found)
    store.add_rejections(
        matching(members[one.row], texts[members[one.row].instruction_id], STAGE, one, policy) for one in found
    )


def _figures(context: Context, policy: PolicyName) -> dict[str, str]:
    store = context.store
    mean = store.scalar("SELECT AVG(reward) FROM instances WHERE policy = ?", policy)
    reasons = list(store.rejection_reasons(STAGE).items())[:3]
    return {
        "policy": policy,
        "reward": "–" if mean is None else f"{mean:.2f}",
        "dropped": ", ".join(f"{reason} {n}" for reason, n in reasons),
    }
