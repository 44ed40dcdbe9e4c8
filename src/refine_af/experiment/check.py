"""The tasks of an experiment, and what can be known of it before a run spends hours on the stages before it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from refine_af.config import Config
from refine_af.errors import UsageError
from refine_af.evaluation.tasks import LoadedTasks, load_tasks, tasks_of_seeds
from refine_af.parts import Parts
from refine_af.records import SeedTask
from refine_af.seeds import choose_held_out, load_seeds


def check_experiment(config: Config) -> None:
    """Raises UsageError for tasks that can't be had, or that can't be asked as the config says."""
    options = config.experiment
    if not options.arms:
        return
    seeds = load_seeds(config.seeds.path).tasks
    held_out = choose_held_out(seeds, config.seeds.held_out, config.seed)
    experiment_tasks(config, [seed for seed in seeds if seed.id in held_out])
    if options.likelihood and config.model.engine == "vllm":
        raise UsageError("experiment.likelihood can't be had from vllm; set it to false, or model.engine=transformers")
    if options.prompt == "chat":
        with tempfile.TemporaryDirectory(prefix="refine-af-") as scratch:
            if not Parts(config, Path(scratch)).dialect.is_chat:
                raise UsageError(f"experiment.prompt=chat: {config.model.name} has no chat template; set it to plain")


def experiment_tasks(config: Config, held_out: Sequence[SeedTask]) -> LoadedTasks:
    """The tasks of ``experiment.tasks``, or without it the held-out seeds. Raises UsageError where there are none."""
    options = config.experiment
    if options.tasks is not None:
        return load_tasks(Path(os.path.expanduser(options.tasks)), options.instances)
    if not held_out:
        raise UsageError(
            f"experiment: seeds.held_out={config.seeds.held_out} leaves no seed task to evaluate on; raise it, or give "
            "experiment.tasks"
        )
    if options.shots:
        raise UsageError("experiment.shots=2: seed tasks have no examples to show; set it to 0, or experiment.tasks")
    return LoadedTasks(tasks_of_seeds(held_out))
