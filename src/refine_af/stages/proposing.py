"""What a round of the instructions stage proposes: lists that the model goes on with, or instructions of which it is
given the first words.

A proposal is a text of a model with what was shown to it; whether it is kept is for the stage to say.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from refine_af.engines.base import Completion, Engine, Prompts, Stop
from refine_af.prompts.instructions import ITEM_STOP, STOP, list_prompt, list_request, opening_of, parse_list
from refine_af.records import Instruction, derived_random, derived_seed
from refine_af.stages.context import Context

STAGE = "instructions"
CUT = "cut by length"
_LETTER = re.compile(r"\w")


@dataclass(frozen=True, slots=True)
class Proposal:
    """``likelihood``: the mean log-probability of its tokens, in nats, where texts are ranked by it. ``fault``: why
    it is no whole text, None where it is one. ``with_input``: whether it was asked to need an input; None where neither
    was asked."""

    text: str
    shown: tuple[str, ...]  # ids
    likelihood: float | None = None
    fault: str | None = None
    with_input: bool | None = None


# Proposals of which one is kept at most, the best first.
Rivals = list[Proposal]


def propose(context: Context, engine: Engine, number: int, pool: Sequence[Instruction]) -> list[Rivals]:
    """The round's, in the order of its prompts."""
    by_method = {"list": _listed, "openings": _opened}
    return by_method[context.config.instructions.method](context, engine, number, pool)


def _listed(context: Context, engine: Engine, number: int, pool: Sequence[Instruction]) -> list[Rivals]:
    """As Self-Instruct does: a list of people's tasks and of the model's own, which goes on as the model likes."""
    config, seed = context.config.instructions, context.config.seed
    choose = derived_random(seed, STAGE, number)
    seeds = context.store.instructions(origin="seed", status="kept")
    shown = [_demonstrations(choose, seeds, pool, context) for _ in range(config.prompts_per_round)]
    prompts = Prompts(list_request(context.parts.dialect), tuple(list_prompt([d.text for d in some]) for some in shown))
    [completions] = engine.generate([prompts], config.sampling, seed=_seed(context, number), stop=Stop(STOP))
    proposed: list[Rivals] = []
    for some, completion in zip(shown, completions, strict=True):
        ids = tuple(d.id for d in some)
        items, cut = parse_list(completion.text, len(some) + 1, ended=completion.ended)
        proposed += [[Proposal(text, ids)] for text in items]
        proposed += [[Proposal(cut, ids, fault=CUT)]] if cut is not None else []
    return proposed


def _opened(context: Context, engine: Engine, number: int, pool: Sequence[Instruction]) -> list[Rivals]:
    """Lists of tasks that are all given an input, or none of them, whose next item opens as another such task does.

    Several continuations of an opening are rivals, the likeliest first: of a small model's it is the one that most
    often makes sense, and the opening keeps them from being alike.
    """
    config, seed = context.config.instructions, context.config.seed
    choose = derived_random(seed, STAGE, number)
    seeds = context.store.instructions(origin="seed", status="kept")
    own, language = _short(pool, context), context.config.reads
    opened: list[tuple[Instruction, str, list[Instruction]]] = []
    for place in range(config.prompts_per_round):
        from_pool = own and choose.random() < config.from_pool / config.demonstrations
        source = choose.choice(own) if from_pool else _dealt(context, seeds, number, place)
        words = language.count(source.text)
        wanted = choose.randint(max(2, words // 2), max(2, 2 * words // 3))
        opening = opening_of(source.text, wanted, language)
        by_people, own_ones = (
            [i for i in some if i.needs_input == source.needs_input and i != source] for some in (seeds, pool)
        )
        opened.append((source, opening, _demonstrations(choose, by_people, own_ones, context)))
    groups = [
        Prompts(
            list_request(context.parts.dialect, source.needs_input) + list_prompt([d.text for d in some]),
            (f" {opening}",) * config.continuations,
        )
        for source, opening, some in opened
    ]
    made = engine.generate(groups, config.sampling, seed=_seed(context, number), stop=Stop(ITEM_STOP), log_probs=True)
    return [
        sorted(
            (
                Proposal(
                    " ".join(f"{opening}{c.text}".split()),
                    tuple(d.id for d in (source, *some)),
                    fmean(c.log_probs or (0.0,)),
                    _fault(c),
                    source.needs_input,
                )
                for c in completions
            ),
            key=lambda one: -(one.likelihood or 0.0),
        )
        for (source, opening, some), completions in zip(opened, made, strict=True)
    ]


def _fault(continuation: Completion) -> str | None:
    """An opening by itself is half a task of a seed's, new enough to pass for a task."""
    if not continuation.ended:
        return CUT
    return None if _LETTER.search(continuation.text) else "adds nothing to its opening"


def _seed(context: Context, number: int) -> int:
    return derived_seed(context.config.seed, STAGE, number)


def _dealt(context: Context, seeds: Sequence[Instruction], number: int, place: int) -> Instruction:
    """Seeds whose openings are used: none twice before all were."""
    short = _short(seeds, context) or list(seeds)
    turn, card = divmod((number - 1) * context.config.instructions.prompts_per_round + place, len(short))
    derived_random(context.config.seed, STAGE, "deck", turn).shuffle(short)
    return short[card]


def _short(rows: Sequence[Instruction], context: Context) -> list[Instruction]:
    longest, count = context.config.instructions.max_demonstration_words, context.config.reads.count
    return [r for r in rows if count(r.text) <= longest]


def _demonstrations(
    choose: random.Random, seeds: Sequence[Instruction], pool: Sequence[Instruction], context: Context
) -> list[Instruction]:
    config = context.config.instructions
    pool, seeds = _short(pool, context), _short(seeds, context) or list(seeds)
    own = choose.sample(pool, min(config.from_pool, len(pool), config.demonstrations))
    by_people = choose.sample(seeds, min(config.demonstrations - len(own), len(seeds)))
    shown = by_people + own
    choose.shuffle(shown)
    return shown
