"""Which seed tasks a reward and its witness know: found without a model, so that a lack of them is told at once."""

from __future__ import annotations

from refine_af.config import Config
from refine_af.errors import UsageError
from refine_af.feedback.base import Example
from refine_af.records import SeedTask, derived_random
from refine_af.seeds import built_in_tasks, shown_tasks

LONGEST = 80  # words of a pair: longer ones cost more, and rows are not like them
_FEWEST, MOST = 8, 48  # anchors of the reward, and of its witness


def split_anchors(config: Config) -> tuple[list[Example], list[Example]]:
    """Of the shown seed tasks those that a reward may know, and as many others for a witness: short ones, chosen by the
    seed. Where a run has brought too few of its own, in English, built-in ones stand beside them. Raises UsageError
    where they are too few all the same."""
    short = _short(shown_tasks(config.seeds, config.seed), config)
    derived_random(config.seed, "anchors").shuffle(short)
    if config.seeds.path is not None and config.reads.is_english:
        more = _short(built_in_tasks(), config)
        derived_random(config.seed, "more anchors").shuffle(more)
        short += more[: max(0, 2 * _FEWEST - len(short))]
    if len(short) < 2 * _FEWEST:
        own = config.seeds.path is not None
        raise UsageError(
            f"{config.seeds.path if own else 'the built-in seeds'}: only {len(short)} seed tasks of at most {LONGEST} "
            f"words are left after seeds.held_out={config.seeds.held_out}, and the reward and its check need "
            f"{2 * _FEWEST}; {'add short ones, ' if own else ''}lower seeds.held_out, or set feedback.name=likelihood "
            "and policy.guards.witness=null"
        )
    count = min(MOST, len(short) // 2)
    return short[::2][:count], short[1::2][:count]


def _short(tasks: list[SeedTask], config: Config) -> list[Example]:
    return [Example(t.instruction, t.input, t.output) for t in tasks if t.words(config.reads) <= LONGEST]
