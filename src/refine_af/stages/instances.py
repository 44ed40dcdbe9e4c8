"""Writes the pairs: several candidates an instruction from the tuned policy, and as many from the initial one as
the control. They are read, filtered and scored; the best of each instruction are selected, and the data set written.

A batch of completions is one transaction, so that a killed run loses at most one batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import groupby

from refine_af.dataset.write import write_dataset
from refine_af.engines.base import Engine
from refine_af.errors import RefineError
from refine_af.filters import contradicts
from refine_af.prompts.pairs import Pair
from refine_af.records import Instance, Instruction, PolicyName, Rejection, StageCounts, content_id, derived_seed
from refine_af.stages.context import Context, generated_instructions
from refine_af.stages.pairs import PairWriter, WrittenPair

STAGE = "instances"


def run_instances(context: Context) -> str:
    store, config = context.store, context.config
    instructions = generated_instructions(store)
    adapter = context.folder / "policy"
    policies: tuple[PolicyName, ...] = ("initial", "tuned") if config.policy.trains else ("initial",)
    candidates = config.candidates(len(instructions))
    batches = list(_batches(instructions, candidates, config.model.batch_size))
    done = store.cursor(STAGE).get("batches", 0)
    context.progress.begin(STAGE, len(batches) * len(policies), "batches", done)
    writer = PairWriter(context)
    for place, policy in enumerate(policies):
        first = max(0, done - place * len(batches))
        if first >= len(batches):
            continue
        source: AbstractContextManager[Engine]
        source = (
            context.parts.adapted_engine(adapter) if policy == "tuned" else nullcontext(context.parts.initial_engine)
        )
        with source as engine:
            for number in range(first, len(batches)):
                seed = derived_seed(config.seed, STAGE, policy, number)
                written = writer.write(engine, batches[number], config.instances.sampling, seed)
                done = place * len(batches) + number + 1
                _save_batch(context, written, policy, engine.model, done)
                context.progress.update(done, _figures(context, policy))
    with store.transaction():
        for policy in policies:
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
    write_dataset(store, context.folder / "dataset", config)
    read = len(instructions) * candidates * len(policies)
    kept = sum(len(store.instances(policy=p)) for p in policies)
    store.finish_stage(STAGE, StageCounts(read=read, kept=kept, rejected=store.rejected(STAGE)))
    return f"{len(selected)} selected of {kept} readable pairs in {read} completions"


def _batches(instructions: list[Instruction], candidates: int, size: int) -> Iterator[list[Instruction]]:
    """Batches of about ``size`` completions: each instruction's candidates together, one kind of prompt a batch."""
    ordered = sorted(instructions, key=lambda i: bool(i.is_classification))
    step = max(1, size // candidates)
    for _, group in groupby(ordered, key=lambda i: bool(i.is_classification)):
        members = list(group)
        for start in range(0, len(members), step):
            yield [i for i in members[start : start + step] for _ in range(candidates)]


def _save_batch(context: Context, written: list[WrittenPair], policy: PolicyName, model: str, done: int) -> None:
    instances: dict[str, Instance] = {}
    rejections: list[Rejection] = []
    scores: list[tuple[str, str, float, float]] = []
    for one in written:
        if one.pair is None:
            reason, detail = one.fault or ("unreadable", "")
            note = f"{policy}: {detail}" if detail else policy
            rejections.append(Rejection(STAGE, reason, f"{one.instruction.text}\n{one.completion.text}", note))
            continue
        id = content_id(policy, one.instruction.id, one.pair.input, one.pair.output)
        if id in instances:
            text = f"{one.instruction.text}\n{one.completion.text}"
            rejections.append(Rejection(STAGE, "duplicate", text, policy))
            continue
        instances[id] = Instance(
            id, one.instruction.id, one.pair.input, one.pair.output, model, policy, one.judgement.reward
        )
        judged = one.judgement
        scores += [(id, name, value, judged.shares.get(name, 0.0)) for name, value in judged.components.items()]
    store = context.store
    with store.transaction():
        store.add_instances(instances.values())
        store.add_scores(scores)
        store.add_rejections(rejections)
        store.save_cursor(STAGE, batches=done)


def _drop_contradictions(context: Context, policy: PolicyName) -> None:
    """Self-Instruct's rule: one input with different outputs, and none of the instruction's pairs can be trusted.

    Where best_of_n wrote more candidates, it looks at the best of them, as many as there are without it: among many
    samples some have an input in common, and the rule would drop nearly every instruction.
    """
    store, usual = context.store, context.config.instances.candidates
    texts = {i.id: i.text for i in store.instructions()}
    by_instruction: dict[str, list[Instance]] = {}
    for instance in store.instances(policy=policy):
        by_instruction.setdefault(instance.instruction_id, []).append(instance)
    for id, members in by_instruction.items():
        best = {m.id for m in select_best(members, usual)}
        shared = contradicts(Pair(m.input, m.output) for m in members if m.id in best)
        if shared is None:
            continue
        store.delete_instances(m.id for m in members)
        store.add_rejections(
            Rejection(STAGE, "one input, two outputs", f"{texts[id]}\nInput: {m.input}\nOutput: {m.output}",
                      f"{policy}: {shared[:80]}")
            for m in members
        )  # fmt: skip


def select_best(instances: list[Instance], per_instruction: int, min_reward: float | None = None) -> list[Instance]:
    """The instances with the highest reward of each instruction; the earlier one where rewards tie."""
    by_instruction: dict[str, list[Instance]] = {}
    for instance in instances:
        if min_reward is None or (instance.reward is not None and instance.reward >= min_reward):
            by_instruction.setdefault(instance.instruction_id, []).append(instance)
    return [
        best
        for members in by_instruction.values()
        for best in sorted(members, key=lambda i: float("inf") if i.reward is None else -i.reward)[:per_instruction]
    ]


def _figures(context: Context, policy: PolicyName) -> dict[str, str]:
    store = context.store
    mean = store.scalar("SELECT AVG(reward) FROM instances WHERE policy = ?", policy)
    reasons = list(store.rejection_reasons(STAGE).items())[:3]
    return {
        "policy": policy,
        "reward": "–" if mean is None else f"{mean:.2f}",
        "dropped": ", ".join(f"{reason} {n}" for reason, n in reasons),
    }
