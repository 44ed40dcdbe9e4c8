"""The policy trained again on a run's instructions, with another seed, and the arms of what it writes: what one policy
shows may be that policy's luck.

A replica is a run of its own in the run's folder, whose first stages are copied and which is neither fine-tuned nor
evaluated outside its arms. All its random choices come of its own seed; the evaluated tasks and the untouched model's
evaluation are the run's.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from refine_af.evaluation.compare import Evaluation
from refine_af.experiment.data import sizes
from refine_af.experiment.results import BASE, pooled_arms, read_evaluations
from refine_af.models import build_once
from refine_af.records import derived_seed
from refine_af.stages.context import Context, execute_stage
from refine_af.stages.instances import run_instances
from refine_af.stages.policy import run_policy
from refine_af.store import Store

_COPIED = ("seeds", "instructions")  # stages


def replica_arms(context: Context, seed: int, run_arms: Callable[[Context], str]) -> list[Evaluation]:
    """Makes the replica of ``seed``, or goes on with it, and returns its arms of the largest size.

    ``run_arms``: the stage that compares arms, whose folders and base are those of ``context`` by now.
    """
    folder = context.folder / "policies" / f"seed-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    experiment = context.config.experiment.model_copy(update={"policy_seeds": (0,)})
    own = derived_seed(context.config.seed, "policy", seed)
    config = context.config.model_copy(update={"seed": own, "experiment": experiment})
    with Store(folder / "run.db") as store:
        if store.run_config() is None:
            _copy(context.store, store, config.model_dump(mode="json"))
        parts = context.parts.with_config(config)
        made = replace(context, config=config, store=store, folder=folder, parts=parts)
        context.progress.note(f"policy seed {seed}: in {folder}")
        for name, run in (("policy", run_policy), ("instances", run_instances)):
            execute_stage(made, name, run)
        base = Path("arms") / BASE
        (folder / "arms").mkdir(exist_ok=True)
        build_once(folder / base, lambda to: _copy_tree(context.folder / base, to))
        execute_stage(made, "arms", run_arms)
        there = sizes(made)
        return pooled_arms(read_evaluations(folder / "arms", experiment, there), experiment, there[-1])


def _copy_tree(source: Path, target: Path) -> None:
    shutil.copytree(source, target, dirs_exist_ok=True)


def _copy(source: Store, target: Store, config: dict[str, object]) -> None:
    """Seeds and instructions, with what their stages left; all or nothing."""
    with target.transaction():
        target.save_run(config, source.run_versions())
        target.add_instructions(source.instructions())
        target.add_instances(source.instances(policy="seed"))
        for table, column in (("stages", "name"), ("metrics", "stage"), ("rejections", "stage")):
            for stage in _COPIED:
                for row in source.query(f"SELECT * FROM {table} WHERE {column} = ?", stage):
                    kept = {name: row[name] for name in row.keys() if name != "id"}  # noqa: SIM118
                    marks = ", ".join("?" * len(kept))
                    target.many(f"INSERT INTO {table} ({', '.join(kept)}) VALUES ({marks})", [tuple(kept.values())])
