"""The arms' data sets: from the same instructions, each by the rule of its arm, of the same size, without rows that
repeat the evaluation. Whatever was not taken is a rejection of the stage `arms`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from refine_af.config import Arm, Config
from refine_af.errors import RefineError
from refine_af.evaluation.decontaminate import contaminated
from refine_af.evaluation.tasks import EvaluationTask
from refine_af.feedback.base import Example, Judgement
from refine_af.records import Instance, Rejection, content_id, derived_random
from refine_af.stages.candidates import by_instruction, matching, pair_text, select_best
from refine_af.stages.context import Context
from refine_af.store import Store
from refine_af.validation.choices import last_words, shuffled

STAGE = "arms"
LEFT_OUT = "another arm has no such pair"


@dataclass(frozen=True, slots=True)
class Matched:
    """What every arm has: instance by instruction, as many for each arm; and the pairs that are left out for that."""

    kept: Mapping[str, Mapping[str, Sequence[Instance]]]
    left_out: tuple[tuple[str, Instance], ...]


def make_data_sets(
    context: Context, tasks: Sequence[EvaluationTask], judged: Mapping[str, Mapping[str, Judgement]]
) -> None:
    """Adds ``arm_rows``, rejections and counts; the caller's transaction makes it a unit of work. ``judged``: what
    :func:`refine_af.experiment.judging.judge_arms` found.

    Raises RefineError where no instruction has a pair in every arm.
    """
    store, config = context.store, context.config
    texts = {i.id: i.text for i in store.instructions()}
    chosen: dict[str, list[Instance]] = {}
    figures: dict[str, float] = {}
    for arm, rows in ((one.name, chosen_pairs(store, one, config, judged)) for one in config.experiment.arms):
        pairs = [(texts[row.instruction_id], row.input) for row in rows]
        found = contaminated(pairs, tasks, language=config.reads)
        store.add_rejections(
            matching(rows[one.row], texts[rows[one.row].instruction_id], STAGE, one, arm) for one in found
        )
        dropped = {one.row for one in found}
        chosen[arm] = [row for place, row in enumerate(rows) if place not in dropped]
        figures |= {f"{arm}/chosen": len(rows), f"{arm}/contaminated": len(found)}
    matched = match(chosen)
    store.add_rejections(
        Rejection(STAGE, LEFT_OUT, pair_text(row, texts[row.instruction_id]), arm) for arm, row in matched.left_out
    )
    order = [id for id in texts if id in matched.kept[config.experiment.names[0]]]
    if not order:
        raise RefineError(
            "no instruction has a pair in every one of experiment.arms; see why in `refine-af status`: raise "
            "instances.candidates, or lower instances.min_reward"
        )
    derived_random(config.seed, STAGE, "order").shuffle(order)
    places = {id: place for place, id in enumerate(order)}
    texts_of = {
        arm.name: _keep(store, arm, [row for id in order for row in matched.kept[arm.name][id]], places, config.seed)
        for arm in config.experiment.arms
    }
    ours = texts_of[config.experiment.names[0]]
    figures |= {f"{arm}/shared": len(theirs & ours) for arm, theirs in texts_of.items()}
    left_out = {row.instruction_id for _, row in matched.left_out} - set(order)
    store.add_metrics(STAGE, 0, figures | {"instructions": len(order), "left_out": len(left_out)})


def match(chosen: Mapping[str, Sequence[Instance]]) -> Matched:
    """The instructions for which every arm has a pair, each with as many pairs as the arm with the fewest."""
    groups = {arm: by_instruction(rows) for arm, rows in chosen.items()}
    kept: dict[str, dict[str, Sequence[Instance]]] = {arm: {} for arm in chosen}
    left_out: list[tuple[str, Instance]] = []
    for arm, group in groups.items():
        for id, rows in group.items():
            fewest = min(len(other.get(id, ())) for other in groups.values())
            if fewest:
                kept[arm][id] = rows[:fewest]
            left_out += [(arm, row) for row in rows[fewest:]]
    return Matched(kept, tuple(left_out))


def chosen_pairs(
    store: Store, arm: Arm, config: Config, judged: Mapping[str, Mapping[str, Judgement]] | None = None
) -> list[Instance]:
    """By the arm's rule: what feedback says of a pair counts for the best and the worst alone. ``judged``: by a
    feedback of an arm's own, what it says of each instance; ``instances.min_reward`` is of the run's."""
    pool, count = pool_of(store, arm), config.instances.per_instruction
    if arm.feedback is not None:
        of = (judged or {})[arm.feedback]
        pool = [replace(one, reward=of[one.id].reward, sound=of[one.id].sound) for one in pool]
    if arm.choose == "best":
        return select_best(pool, count, None if arm.feedback else config.instances.min_reward)
    rows = []
    for id, members in by_instruction(pool).items():
        if arm.choose == "worst":
            members = sorted((one for one in members if one.sound), key=lambda one: one.reward or 0.0)
        elif arm.choose == "shortest":
            members = sorted(members, key=lambda one: (config.reads.count(one.output), len(one.output)))
        elif arm.choose == "chance":
            derived_random(config.seed, STAGE, arm.name, id).shuffle(members)
        rows += members[:count]
    return rows


def pool_of(store: Store, arm: Arm) -> list[Instance]:
    """The pairs an arm may choose from. Best-of-n has the initial policy's and those that were written for it."""
    if arm.policy == "best_of_n":
        return [*store.instances(policy="initial"), *store.instances(policy="best_of_n")]
    return store.instances(policy=arm.policy)


def _keep(
    store: Store, arm: Arm, rows: Sequence[Instance], places: Mapping[str, int], seed: int
) -> set[tuple[str, str, str]]:
    """Adds an arm's rows; returns their instructions' ids, inputs and answers."""
    outputs = _outputs(rows, arm, seed)
    store.many(
        "INSERT INTO arm_rows (arm, place, instance_id, output) VALUES (?, ?, ?, ?)",
        [
            (arm.name, places[row.instruction_id], row.id, None if text == row.output else text)
            for row, text in zip(rows, outputs, strict=True)
        ],
    )
    return {(row.instruction_id, row.input, text) for row, text in zip(rows, outputs, strict=True)}


def _outputs(rows: Sequence[Instance], arm: Arm, seed: int) -> list[str]:
    """What the arm's data set has for answers."""
    pairs = [Example("", row.input, row.output) for row in rows]
    if arm.spoil == "shuffled":
        pairs = shuffled(pairs, seed)
    elif arm.spoil == "last_word":
        pairs = last_words(pairs)
    return [one.output for one in pairs]


def arm_instances(store: Store, arm: str, size: int | None = None) -> list[Instance]:
    """An arm's data set in its order: the pairs of the first ``size`` instructions, of all without it. A pair of
    nonsense has an id of its own, and neither reward nor scores."""
    rows = store.query(
        "SELECT instance_id, output FROM arm_rows WHERE arm = ?1 AND (?2 IS NULL OR place < ?2) ORDER BY place, rowid",
        arm,
        size,
    )
    known = {i.id: i for i in store.instances()}
    return [_spoilt(known[row["instance_id"]], row["output"]) for row in rows]


def _spoilt(one: Instance, output: str | None) -> Instance:
    if output is None:
        return one
    id = content_id("nonsense", one.instruction_id, one.input, output)
    return replace(one, id=id, output=output, reward=None)


def sizes(context: Context) -> list[int]:
    """Instructions in each data set, the smallest first; a size that was not reached is all that there are."""
    there = int(dict(context.store.metric(STAGE, "instructions"))[0])
    asked = context.config.experiment.sizes or (there,)
    return sorted({min(size, there) for size in asked})
