"""Which seed tasks are held out for the evaluation, and which may be shown and learnt from."""

from __future__ import annotations

from refine_af.config import SeedsConfig
from refine_af.errors import UsageError
from refine_af.records import SeedTask, derived_random
from refine_af.seeds.load import load_seeds


def choose_held_out(tasks: tuple[SeedTask, ...], share: float, seed: int) -> set[str]:
    """The ids of the held-out tasks: the share of each kind (classification or not), chosen by the seed.

    Raises UsageError where that leaves no task to show.
    """
    chosen: set[str] = set()
    for kind in (True, False):
        ids = sorted(t.id for t in tasks if t.is_classification == kind)
        derived_random(seed, "held out", kind).shuffle(ids)
        chosen.update(ids[: round(share * len(ids))])
    if len(chosen) == len(tasks):
        raise UsageError(
            f"seeds.held_out={share:g} takes all {len(tasks)} seed tasks, and some are to be shown; lower it"
        )
    return chosen


def shown_tasks(config: SeedsConfig, seed: int) -> list[SeedTask]:
    """The tasks of a run that are not held out, in the file's order."""
    tasks = load_seeds(config.path).tasks
    held_out = choose_held_out(tasks, config.held_out, seed)
    return [t for t in tasks if t.id not in held_out]


def built_in_tasks() -> list[SeedTask]:
    return list(load_seeds(None).tasks)
