"""Candidate pairs as the stages `instances` and `arms` share them: batches to write, what becomes of a batch, and which
of an instruction's candidates are the best."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from refine_af.engines.base import BATCHES_AT_ONCE
from refine_af.evaluation.decontaminate import Contamination
from refine_af.records import Instance, Instruction, PolicyName, Rejection, content_id
from refine_af.stages.context import Context
from refine_af.stages.pairs import WrittenPair

CONTAMINATED = "matches an evaluation task"
DUPLICATE = "duplicate"


def batches(instructions: Sequence[Instruction], candidates: int, at_once: int) -> Iterator[list[Instruction]]:
    """Batches of some times as many pairs as are decoded ``at_once``: each instruction's candidates together."""
    step = max(1, BATCHES_AT_ONCE * at_once // candidates)
    for start in range(0, len(instructions), step):
        yield [i for i in instructions[start : start + step] for _ in range(candidates)]


def save_batch(context: Context, stage: str, written: Iterable[WrittenPair], policy: PolicyName, model: str) -> None:
    """Adds a batch's pairs with their scores, or the rejections of what is none, in the caller's transaction.

    A pair of best_of_n that the initial policy wrote too is a duplicate: the arm chooses among both.
    """
    store = context.store
    instances: dict[str, Instance] = {}
    rejections: list[Rejection] = []
    scores: list[tuple[str, str, float, float]] = []
    for one in written:
        text = written_text(one.instruction.text, one.input, one.output)
        if one.pair is None:
            reason, detail = one.fault or ("unreadable", "")
            rejections.append(Rejection(stage, reason, text, f"{policy}: {detail}" if detail else policy))
            continue
        content = (one.instruction.id, one.pair.input, one.pair.output)
        id = content_id(policy, *content)
        if id in instances or (policy == "best_of_n" and store.has_instance(content_id("initial", *content))):
            rejections.append(Rejection(stage, DUPLICATE, text, policy))
            continue
        judged = one.judgement
        instances[id] = Instance(id, *content, model, policy, judged.reward, sound=judged.sound)
        scores += [(id, name, value, judged.shares.get(name, 0.0)) for name, value in judged.components.items()]
    store.add_instances(instances.values())
    store.add_scores(scores)
    store.add_rejections(rejections)


def matching(instance: Instance, instruction: str, stage: str, found: Contamination, whose: str) -> Rejection:
    """The rejection of a pair that repeats the evaluation's text; ``whose`` is a policy or an arm."""
    detail = f"{whose}: ROUGE-L {found.rouge_l:.3f} to the {found.kind} of {found.task}"
    return Rejection(stage, CONTAMINATED, pair_text(instance, instruction), detail)


def pair_text(instance: Instance, instruction: str) -> str:
    """A pair as the text of a rejection."""
    return written_text(instruction, instance.input, instance.output)


def written_text(instruction: str, input: str, output: str) -> str:
    """What was written for an instruction, as the text of a rejection; without what there is none of."""
    parts = [instruction, f"Input: {input}" if input else "", f"Output: {output}" if output else ""]
    return "\n".join(part for part in parts if part)


def by_instruction(instances: Iterable[Instance]) -> dict[str, list[Instance]]:
    """Instances by their instruction's id, both in the order in which they come."""
    groups: dict[str, list[Instance]] = {}
    for instance in instances:
        groups.setdefault(instance.instruction_id, []).append(instance)
    return groups


def select_best(instances: Iterable[Instance], per_instruction: int, min_reward: float | None = None) -> list[Instance]:
    """The sound instances with the highest reward of each instruction; the earlier one where rewards tie.

    Of one input with two outputs the better one is taken. Self-Instruct drops an instruction's pairs then, but its
    pairs are those of one completion, and these are candidates, drawn independently to choose from.
    """
    enough = (
        i for i in instances if i.sound and (min_reward is None or (i.reward is not None and i.reward >= min_reward))
    )
    return [
        best
        for members in by_instruction(enough).values()
        for best in _best(
            sorted(members, key=lambda i: float("inf") if i.reward is None else -i.reward), per_instruction
        )
    ]


def _best(ranked: Iterable[Instance], count: int) -> list[Instance]:
    """The first ``count``, of each input that is not empty the first alone."""
    taken: list[Instance] = []
    inputs: set[str] = set()
    for one in ranked:
        if len(taken) < count and one.input not in inputs:
            taken.append(one)
            inputs |= {one.input} - {""}
    return taken
