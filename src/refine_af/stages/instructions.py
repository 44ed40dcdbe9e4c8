"""Bootstraps instructions as Self-Instruct does: show some, let the model go on, keep what is good and new.

A round is one batch of prompts and one transaction. All its random choices come from (seed, round), and the pool
that it shows from is what the rounds before it kept, so a round is the same whenever it is run.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

from refine_af.engines.base import Engine, Prompts, Stop
from refine_af.errors import RefineError
from refine_af.filters import instruction_fault
from refine_af.novelty import NoveltyIndex
from refine_af.prompts.classification import NO, YES, best_threshold, classification_prompt
from refine_af.prompts.instructions import OPENING, STOP, list_prompt, parse_list
from refine_af.records import (
    Instruction,
    Rejection,
    SeedTask,
    StageCounts,
    content_id,
    derived_random,
    derived_seed,
)
from refine_af.stages.context import Context, generated_instructions, seed_tasks
from refine_af.stages.team_engine import adapted_engine
from refine_af.store import Store

STAGE = "instructions"

# The closest text at any score is told of a kept instruction for those who read the rows. It takes a look at every
# text, some milliseconds at this size, so in a larger pool none is named.
_CLOSEST_NAMED_UP_TO = 100_000


@dataclass
class _Round:
    """What one round made."""

    kept: list[Instruction] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)

    @property
    def read(self) -> int:
        return len(self.kept) + len(self.rejected)


def run_instructions(context: Context) -> str:
    config, store = context.config.instructions, context.store
    index = novelty_index(context.store, context.config.instructions.novelty_threshold)
    pool = generated_instructions(store)
    context.progress.begin(STAGE, config.target, "kept", len(pool))
    with adapted_engine(context.parts, context.team, None) as engine:
        number, read = _bootstrap(context, engine, pool, index)
    if not pool:
        raise RefineError(
            f"no instruction was kept out of {read}; `refine-af status` shows the reasons: "
            "try a larger model, more seeds, or a wider instructions.sampling"
        )
    _decide_classification(context, pool)
    store.finish_stage(STAGE, StageCounts(read=read, kept=len(pool), rejected=store.rejected(STAGE)))
    return f"{len(pool)} kept of {read} in {number} rounds"


def _bootstrap(context: Context, engine: Engine, pool: list[Instruction], index: NoveltyIndex) -> tuple[int, int]:
    """Fills the pool, round by round; gives the number of rounds, and of texts that were read."""
    config, store = context.config.instructions, context.store
    cursor = store.cursor(STAGE)
    number, read, dry = cursor.get("round", 0), cursor.get("read", 0), cursor.get("dry", 0)
    while len(pool) < config.target:
        stopped = ""
        if dry >= config.saturation_rounds:
            stopped = f"saturated: {dry} rounds in a row kept under {config.saturation_yield:.0%}"
        elif number >= config.max_rounds:
            stopped = f"stopped after max_rounds={config.max_rounds}"
        if stopped:
            context.warn(STAGE, f"{stopped}; going on with {len(pool)} of {config.target} instructions")
            break
        number += 1
        made = _run_round(context, engine, number, pool, index)
        pool += made.kept
        read += made.read
        dry = dry + 1 if len(made.kept) <= config.saturation_yield * made.read else 0
        with store.transaction():
            store.add_instructions(made.kept)
            store.add_rejections(made.rejected)
            store.add_metrics(STAGE, number, {"read": made.read, "kept": len(made.kept)})
            store.save_cursor(STAGE, round=number, read=read, dry=dry)
        reasons = Counter(r.reason for r in made.rejected).most_common(3)
        context.progress.update(
            len(pool),
            {"yield": f"{len(pool) / max(1, read):.0%}", "dropped": ", ".join(f"{r} {n}" for r, n in reasons)},
        )
    return number, read


def novelty_index(store: Store, threshold: float) -> NoveltyIndex:
    """Of all seeds and kept instructions. Held-out seeds are in it, so that nothing like them is kept either."""
    index = NoveltyIndex(threshold)
    rows = store.query("SELECT id, text FROM instructions ORDER BY rowid")
    index.add_many([r["text"] for r in rows], [r["id"] for r in rows])
    return index


def _run_round(context: Context, engine: Engine, number: int, pool: list[Instruction], index: NoveltyIndex) -> _Round:
    config, seed = context.config.instructions, context.config.seed
    choose = derived_random(seed, STAGE, number)
    seeds = context.store.instructions(origin="seed", status="kept")
    shown = [_demonstrations(choose, seeds, pool, context) for _ in range(config.prompts_per_round)]
    prompts = Prompts(
        context.parts.dialect.beginning + OPENING,
        tuple(list_prompt([d.text for d in demonstrations]) for demonstrations in shown),
    )
    (completions,) = engine.generate(
        [prompts],
        config.sampling,
        seed=derived_seed(seed, STAGE, number),
        stop=Stop(STOP),
    )
    made = _Round()
    for demonstrations, completion in zip(shown, completions, strict=True):
        items, cut = parse_list(completion.text, len(demonstrations) + 1, ended=completion.ended)
        if cut is not None:
            made.rejected.append(Rejection(STAGE, "cut by length", cut))
        for text in items:
            _keep_or_reject(context, text, number, demonstrations, index, made, room=config.target - len(pool))
    return made


def _demonstrations(
    choose: random.Random, seeds: list[Instruction], pool: list[Instruction], context: Context
) -> list[Instruction]:
    config = context.config.instructions

    def short(rows: list[Instruction]) -> list[Instruction]:
        return [r for r in rows if len(r.text.split()) <= config.max_demonstration_words]

    pool, seeds = short(pool), short(seeds) or seeds
    own = choose.sample(pool, min(config.from_pool, len(pool), config.demonstrations))
    by_people = choose.sample(seeds, min(config.demonstrations - len(own), len(seeds)))
    shown = by_people + own
    choose.shuffle(shown)
    return shown


def _keep_or_reject(
    context: Context,
    text: str,
    number: int,
    demonstrations: list[Instruction],
    index: NoveltyIndex,
    made: _Round,
    room: int,
) -> None:
    fault = instruction_fault(text, context.config.instructions)
    if fault is not None:
        made.rejected.append(Rejection(STAGE, fault[0], text, fault[1]))
        return
    id = content_id("instruction", text)
    # At a threshold of 1 no score is above it, not even that of the same text.
    repeated = (1.0, id) if id in index else index.nearest(text)
    if repeated is not None:
        made.rejected.append(Rejection(STAGE, "not novel", text, f"{repeated[0]:.3f} to {repeated[1]}"))
        return
    if len(made.kept) >= room:
        made.rejected.append(Rejection(STAGE, "target reached", text))
        return
    closest = index.closest(text) if len(index) <= _CLOSEST_NAMED_UP_TO else None
    made.kept.append(
        Instruction(
            id=id,
            text=text,
            is_classification=None,
            origin="generated",
            round=number,
            model=context.parts.initial_engine.model,
            prompt_ids=tuple(d.id for d in demonstrations),
            nearest_id=closest[1] if closest else None,
            nearest_rouge_l=closest[0] if closest else None,
            status="kept",
        )
    )
    index.add(text, id)


_SHOWN_OF_A_KIND = 1
_CALIBRATED_ON = 24


def _decide_classification(context: Context, pool: list[Instruction]) -> None:
    """Asks the model of each kept instruction whether it is classification, its habit taken off by labelled seeds."""
    seeds = [t for t in seed_tasks(context.store, "kept") if len(t.instruction.split()) <= 30]
    derived_random(context.config.seed, "classification").shuffle(seeds)
    kinds = [[t for t in seeds if t.is_classification == kind] for kind in (True, False)]
    shown = [t for pair in zip(*(k[:_SHOWN_OF_A_KIND] for k in kinds), strict=False) for t in pair]
    measured = [t for kind in kinds for t in kind[_SHOWN_OF_A_KIND : _SHOWN_OF_A_KIND + _CALIBRATED_ON // 2]]
    texts = [t.instruction for t in measured] + [i.text for i in pool]
    scores = _yes_over_no(context, shown, texts)
    share = len(kinds[0]) / max(1, len(seeds))
    threshold = best_threshold(scores[: len(measured)], [t.is_classification for t in measured], share)
    decisions = {i.id: score > threshold for i, score in zip(pool, scores[len(measured) :], strict=True)}
    context.store.set_classification(decisions)


def _yes_over_no(context: Context, shown: list[SeedTask], texts: list[str]) -> list[float]:
    beginning = context.parts.dialect.beginning
    prompts = [beginning + classification_prompt(shown, text) for text in texts]
    answers = context.parts.initial_engine.log_probs([(p, a) for p in prompts for a in (YES, NO)])
    return [float(yes.sum() - no.sum()) for yes, no in zip(answers[::2], answers[1::2], strict=True)]
