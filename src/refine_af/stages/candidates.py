"""Candidate pairs as the stages `instances` and `arms` share them: batches to write, what becomes of a batch, and which
of an instruction's candidates can be trusted and are the best."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from refine_af.engines.base import BATCHES_AT_ONCE
from refine_af.evaluation.decontaminate import Contamination
from refine_af.filters import contradicts
from refine_af.prompts.pairs import Pair
from refine_af.records import Instance, Instruction, PolicyName, Rejection, content_id
from refine_af.stages.context import Context
from refine_af.stages.pairs import WrittenPair

CONTAMINATED = "matches an evaluation task"


def batches(instructions: Sequence[Instruction], candidates: int, at_once: int) -> Iterator[list[Instruction]]:
    """Batches of some times as many completions as are decoded ``at_once``: each instruction's candidates together, one
    kind of prompt a batch."""
    ordered = sorted(instructions, key=lambda i: bool(i.is_classification))
    step = max(1, BATCHES_AT_ONCE * at_once // candidates)
    for _, group in groupby(ordered, key=lambda i: bool(i.is_classification)):
        members = list(group)
        for start in range(0, len(members), step):
            yield [i for i in members[start : start + step] for _ in range(candidates)]


def save_batch(context: Context, stage: str, written: Iterable[WrittenPair], policy: PolicyName, model: str) -> None:
    """Adds a batch's pairs with their scores, or the rejections of what is none, in the caller's transaction.

    A pair of best_of_n that the initial policy wrote too is a duplicate: the arm chooses among both.
    """
    store = context.store
    instances: dict[str, Instance] = {}
    rejections: list[Rejection] = []
    scores: list[tuple[str, str, float, float]] = []
    for one in written:
        text = f"{one.instruction.text}\n{one.completion.text}"
        if one.pair is None:
            reason, detail = one.fault or ("unreadable", "")
            rejections.append(Rejection(stage, reason, text, f"{policy}: {detail}" if detail else policy))
            continue
        content = (one.instruction.id, one.pair.input, one.pair.output)
        id = content_id(policy, *content)
        if id in instances or (policy == "best_of_n" and store.has_instance(content_id("initial", *content))):
            rejections.append(Rejection(stage, "duplicate", text, policy))
            continue
        judged = one.judgement
        instances[id] = Instance(id, *content, model, policy, judged.reward)
        scores += [(id, name, value, judged.shares.get(name, 0.0)) for name, value in judged.components.items()]
    store.add_instances(instances.values())
    store.add_scores(scores)
    store.add_rejections(rejections)


def contradiction(members: list[Instance], usual: int) -> str | None:
    """The input that an instruction's pairs answer in two ways, by Self-Instruct's rule: then none can be trusted.

    Where best-of-n wrote more candidates, it looks at the best of them, the ``usual`` number: among many samples some
    have an input in common, and the rule would drop nearly every instruction.
    """
    best = {m.id for m in select_best(members, usual)}
    return contradicts(Pair(m.input, m.output) for m in members if m.id in best)


def contradictory(instance: Instance, instruction: str, stage: str, shared: str) -> Rejection:
    """The rejection of a pair whose instruction has one input with two outputs."""
    detail = f"{instance.policy}: {shared[:80]}"
    return Rejection(stage, "one input, two outputs", pair_text(instance, instruction), detail)


def matching(instance: Instance, instruction: str, stage: str, found: Contamination, whose: str) -> Rejection:
    """The rejection of a pair that repeats the evaluation's text; ``whose`` is a policy or an arm."""
    detail = f"{whose}: ROUGE-L {found.rouge_l:.3f} to the {found.kind} of {found.task}"
    return Rejection(stage, CONTAMINATED, pair_text(instance, instruction), detail)


def pair_text(instance: Instance, instruction: str) -> str:
    """A pair as the text of a rejection."""
    return f"{instruction}\nInput: {instance.input}\nOutput: {instance.output}"


def by_instruction(instances: Iterable[Instance]) -> dict[str, list[Instance]]:
    """Instances by their instruction's id, both in the order in which they come."""
    groups: dict[str, list[Instance]] = {}
    for instance in instances:
        groups.setdefault(instance.instruction_id, []).append(instance)
    return groups


def select_best(instances: Iterable[Instance], per_instruction: int, min_reward: float | None = None) -> list[Instance]:
    """The instances with the highest reward of each instruction; the earlier one where rewards tie."""
    enough = (i for i in instances if min_reward is None or (i.reward is not None and i.reward >= min_reward))
    return [
        best
        for members in by_instruction(enough).values()
        for best in sorted(members, key=lambda i: float("inf") if i.reward is None else -i.reward)[:per_instruction]
    ]
