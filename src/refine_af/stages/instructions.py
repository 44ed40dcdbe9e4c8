"""Bootstraps instructions as Self-Instruct does: show some, let the model go on, keep what is good and new, and decide
of what kind it is.

A round is one batch of prompts and one transaction. All its random choices come from (seed, round), and the pool
that it shows from is what the rounds before it kept, so a round is the same whenever it is run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from refine_af.engines.base import Engine
from refine_af.errors import RefineError
from refine_af.filters import ANOTHER_SCRIPT, instruction_fault
from refine_af.language import Language
from refine_af.novelty import NoveltyIndex
from refine_af.records import Instruction, Rejection, StageCounts, content_id
from refine_af.stages.context import Context, generated_instructions
from refine_af.stages.kinds import Kinds
from refine_af.stages.proposing import STAGE, Proposal, Rivals, propose
from refine_af.stages.team_engine import adapted_engine
from refine_af.store import Store

# The closest text at any score is told of a kept instruction for those who read the rows. It takes a look at every
# text, some milliseconds at this size, so in a larger pool none is named.
_CLOSEST_NAMED_UP_TO = 100_000


@dataclass
class _Round:
    """What one round made."""

    kept: list[tuple[Instruction, Proposal]] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)

    @property
    def read(self) -> int:
        return len(self.kept) + len(self.rejected)


def run_instructions(context: Context) -> str:
    config, store = context.config.instructions, context.store
    index = novelty_index(store, config.novelty_threshold, context.config.reads)
    pool = generated_instructions(store)
    context.progress.begin(STAGE, config.target, "kept", len(pool))
    with adapted_engine(context.parts, context.team, None) as engine:
        number, read = _bootstrap(context, engine, pool, index)
    if not pool:
        raise RefineError(_nothing_left(store, read))
    store.finish_stage(STAGE, StageCounts(read=read, kept=len(pool), rejected=store.rejected(STAGE)))
    return f"{len(pool)} kept of {read} in {number} rounds"


def _bootstrap(context: Context, engine: Engine, pool: list[Instruction], index: NoveltyIndex) -> tuple[int, int]:
    """Fills the pool, round by round; gives the number of rounds, and of texts that were read."""
    config, store = context.config.instructions, context.store
    cursor = store.cursor(STAGE)
    number, read, dry = cursor.get("round", 0), cursor.get("read", 0), cursor.get("dry", 0)
    kinds = Kinds(context)
    while len(pool) < config.target:
        stopped = ""
        if dry >= config.saturation_rounds:
            share = f"{config.saturation_yield:.0%}"
            stopped = f"at most {share} of each of {dry} rounds in a row was new and in order; add seeds for more"
        elif number >= config.max_rounds:
            stopped = f"stopped after instructions.max_rounds={config.max_rounds}; raise it for more"
        if stopped:
            context.warn(STAGE, f"goes on with {len(pool)} of {config.target} instructions: {stopped}")
            break
        number += 1
        made = _run_round(context, engine, number, pool, index, kinds)
        kept = _of_kinds(kinds, made.kept)
        pool += kept
        read += made.read
        dry = dry + 1 if len(kept) <= config.saturation_yield * made.read else 0
        with store.transaction():
            store.add_instructions(kept)
            store.add_rejections(made.rejected)
            store.add_metrics(STAGE, number, {"read": made.read, "kept": len(kept)})
            store.save_cursor(STAGE, round=number, read=read, dry=dry)
        reasons = Counter(r.reason for r in made.rejected).most_common(3)
        context.progress.update(
            len(pool),
            {"yield": f"{len(pool) / max(1, read):.0%}", "dropped": ", ".join(f"{r} {n}" for r, n in reasons)},
        )
    return number, read


def novelty_index(store: Store, threshold: float, language: Language) -> NoveltyIndex:
    """Of all seeds and kept instructions. Held-out seeds are in it, so that nothing like them is kept either."""
    index = NoveltyIndex(threshold, language)
    rows = store.query("SELECT id, text FROM instructions ORDER BY rowid")
    index.add_many([r["text"] for r in rows], [r["id"] for r in rows])
    return index


def _run_round(
    context: Context, engine: Engine, number: int, pool: list[Instruction], index: NoveltyIndex, kinds: Kinds
) -> _Round:
    made = _Round()
    proposed = propose(context, engine, number, pool)
    best = [one for rivals in proposed if (one := _best(context, rivals, index, made, kinds))]
    for proposal in _likely(best, made):
        _keep_or_reject(context, proposal, number, index, made, room=context.config.instructions.target - len(pool))
    return made


def _best(context: Context, rivals: Rivals, index: NoveltyIndex, made: _Round, kinds: Kinds) -> Proposal | None:
    """The first that is in order and new; the others are rejected."""
    best: Proposal | None = None
    for one in rivals:
        if one.fault is not None:
            fault: tuple[str, str] | None = (one.fault, "")
        elif best is not None:
            fault = ("a likelier one was kept", "")
        else:
            config = context.config
            fault = instruction_fault(one.text, config.instructions, config.reads) or _repetition(one.text, index)
            if fault is None and kinds.lacks_input(one.text, one.with_input):
                fault = (UNLIKE, "")
        if fault is None:
            best = one
        else:
            made.rejected.append(Rejection(STAGE, fault[0], one.text, fault[1]))
    return best


_LIKELY_SHARE = 2 / 3


def _likely(proposals: Sequence[Proposal], made: _Round) -> list[Proposal]:
    """The likelier two thirds of a round's, where they are ranked by that; the others are rejected."""
    ranked = sorted(p.likelihood for p in proposals if p.likelihood is not None)
    least = ranked[int(len(ranked) * (1 - _LIKELY_SHARE))] if ranked else 0.0
    unlikely = [p for p in proposals if p.likelihood is not None and p.likelihood < least]
    made.rejected += [
        Rejection(STAGE, "unlikely", p.text, f"{p.likelihood:.2f} nats a token, under {least:.2f}") for p in unlikely
    ]
    return [p for p in proposals if p not in unlikely]


def _repetition(text: str, index: NoveltyIndex) -> tuple[str, str] | None:
    id = content_id("instruction", text)
    # At a threshold of 1 no score is above it, not even that of the same text.
    nearest = (1.0, id) if id in index else index.nearest(text)
    return None if nearest is None else ("not novel", f"{nearest[0]:.3f} to {nearest[1]}")


def _keep_or_reject(
    context: Context, proposal: Proposal, number: int, index: NoveltyIndex, made: _Round, room: int
) -> None:
    text = proposal.text
    fault = _repetition(text, index)  # of one that the same round kept
    if fault is None and len(made.kept) >= room:
        fault = ("target reached", "")
    if fault is not None:
        made.rejected.append(Rejection(STAGE, fault[0], text, fault[1]))
        return
    id = content_id("instruction", text)
    closest = index.closest(text) if len(index) <= _CLOSEST_NAMED_UP_TO else None
    row = Instruction(
        id=id,
        text=text,
        is_classification=None,
        needs_input=None,
        origin="generated",
        round=number,
        model=context.parts.initial_engine.model,
        prompt_ids=proposal.shown,
        nearest_id=closest[1] if closest else None,
        nearest_rouge_l=closest[0] if closest else None,
        status="kept",
    )
    made.kept.append((row, proposal))
    index.add(text, id)


def _of_kinds(kinds: Kinds, kept: Sequence[tuple[Instruction, Proposal]]) -> list[Instruction]:
    """The instructions with their kinds decided."""
    if not kept:
        return []
    texts = [i.text for i, _ in kept]
    need = kinds.need_input(texts, [p.with_input for _, p in kept])
    labels = kinds.are_classification(texts)
    return [
        replace(i, needs_input=needs, is_classification=labelled)
        for (i, _), needs, labelled in zip(kept, need, labels, strict=True)
    ]


# It needs an input, and what the model would write as one can't be expected to fit.
UNLIKE = "unlike tasks with an input"
_CURES = {
    "not novel": "bring more seeds, or raise instructions.novelty_threshold",
    "cut by length": "raise instructions.sampling.max_tokens",
    "too short": "lower instructions.min_words",
    ANOTHER_SCRIPT: "set language to that of the seeds",
    "too long": "raise instructions.max_words",
    UNLIKE: "bring seeds with inputs of more kinds, or set instances.opened_inputs=false",
}


def _nothing_left(store: Store, read: int) -> str:
    """Which rule took most, and what to change."""
    if not read:
        return "the model wrote no instruction; use a larger model.name, or a higher instructions.sampling.temperature"
    rule, count = next(iter(store.rejection_reasons(STAGE).items()))
    cure = _CURES.get(rule, "use a larger model.name, more seeds, or a higher instructions.sampling.temperature")
    return f"none of {read} instructions was kept; main reason: {count} fell to the rule {rule!r}: {cure}"
