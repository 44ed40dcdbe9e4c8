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
        raise UsageError(
            f"influence: {len(short)} seed tasks of at most {LONGEST} words are shown, and it takes {2 * _FEWEST}, "
            "half for the reward and half for its witness; give more, hold out fewer (seeds.held_out), or take another "
            "reward and witness (feedback.name, policy.guards.witness)"
        )
    count = min(MOST, len(short) // 2)
    return short[::2][:count], short[1::2][:count]


def _short(tasks: list[SeedTask], config: Config) -> list[Example]:
    return [Example(t.instruction, t.input, t.output) for t in tasks if t.words(config.reads) <= LONGEST]
