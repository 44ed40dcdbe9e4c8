"""The pairs by people from which the evaluator learns what a good one is. Read without any model, so that too few of
them are known before a run begins."""

from __future__ import annotations

from refine_af.config import Config
from refine_af.errors import UsageError
from refine_af.feedback.base import Example
from refine_af.seeds import built_in_tasks, shown_tasks

_LONGEST = 60  # words of a pair: with longer ones it costs more and tells short answers in the wild less well
_MOST_PAIRS = 100  # of which each costs the reading of some fifteen texts
_FEWEST_PAIRS = 10


def training_pairs(config: Config) -> list[Example]:
    """People's pairs that the run may learn from: its own shown seed tasks, and the built-in ones beside them where
    the run has brought its own. Never a seed that the run holds out: raises UsageError where too few are left."""
    tasks = shown_tasks(config.seeds, config.seed)
    if config.seeds.path is not None:
        tasks = [*tasks, *built_in_tasks()]
    short = [t for t in tasks if t.words(config.reads) <= _LONGEST]
    if len(short) < _FEWEST_PAIRS:
        raise UsageError(
            f"seeds.held_out={config.seeds.held_out} leaves {len(short)} seed tasks of at most {_LONGEST} words, "
            f"and the embedded reward learns from {_FEWEST_PAIRS} or more: lower it"
        )
    return [Example(t.instruction, t.input, t.output) for t in short[:_MOST_PAIRS]]
