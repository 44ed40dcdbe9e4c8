"""Which seed tasks a reward and its witness know: found without a model, so that a lack of them is told at once."""

from __future__ import annotations

from refine_af.config import Config
from refine_af.errors import UsageError
from refine_af.feedback.base import Example
from refine_af.records import derived_random
from refine_af.seeds import shown_tasks

LONGEST = 80  # words of a pair: longer ones cost more, and rows are not like them
_FEWEST, MOST = 8, 48  # anchors of the reward, and of its witness


def split_anchors(config: Config) -> tuple[list[Example], list[Example]]:
    """Of the shown seed tasks those that a reward may know, and as many others for a witness: short ones, chosen by the
    seed. Raises UsageError where they are too few."""
    short = [t for t in shown_tasks(config.seeds, config.seed) if t.words(config.reads) <= LONGEST]
    if len(short) < 2 * _FEWEST:
        raise UsageError(
            f"influence: {len(short)} seed tasks of at most {LONGEST} words are shown, and it takes {2 * _FEWEST}, a "
            "half for the reward and a half for its witness; give more, or hold out fewer (seeds.held_out)"
        )
    derived_random(config.seed, "anchors").shuffle(short)
    pairs = [Example(t.instruction, t.input, t.output) for t in short]
    count = min(MOST, len(pairs) // 2)
    return pairs[:count], pairs[count : 2 * count]
