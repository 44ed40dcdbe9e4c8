"""What every stage is given, and the questions that several of them ask of the rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from refine_af.config import Config
from refine_af.environment import give_back_memory
from refine_af.feedback.base import Example
from refine_af.parts import Parts
from refine_af.progress import Progress
from refine_af.records import Instruction, SeedTask, derived_random
from refine_af.store import Store
from refine_af.team import Team


@dataclass(frozen=True)
class Context:
    """One run: its config, its rows, its folder, its loaded parts, its display, and the processes that help."""

    config: Config
    store: Store
    folder: Path
    parts: Parts
    progress: Progress
    team: Team = field(default_factory=Team)

    def warn(self, stage: str, text: str) -> None:
        """Tells the user now, and keeps it for the report."""
        self.store.add_event(stage, "warning", text)
        self.progress.note(f"{stage}: {text}")


def execute_stage(context: Context, name: str, run: Callable[[Context], str]) -> None:
    """Runs a stage that is not done yet, or goes on with it, and keeps and shows what it says of itself."""
    if context.store.stage_done(name):
        return
    context.store.start_stage(name)
    summary = run(context)
    give_back_memory()
    context.store.add_event(name, "done", summary)
    context.progress.end(summary)


def seed_tasks(store: Store, status: str) -> list[SeedTask]:
    """The seed tasks with a status: "kept" ones may be shown to a model, "held_out" ones may not."""
    pairs = {i.instruction_id: i for i in store.instances(policy="seed")}
    return [
        SeedTask(i.id, i.text, pairs[i.id].input, pairs[i.id].output, bool(i.is_classification))
        for i in store.instructions(origin="seed", status=status)
    ]


_LONGEST_CALIBRATED = 80  # words: what the instances will be like, not a page


def calibration_examples(context: Context) -> list[Example]:
    """The pairs by people that calibrate a reward; the held-out ones stay out of it too."""
    return calibration_pairs(seed_tasks(context.store, "kept"), context.config)


def calibration_pairs(shown: Sequence[SeedTask], config: Config) -> list[Example]:
    """The pairs out of the shown seed tasks: short ones, chosen by the seed."""
    tasks = [t for t in shown if t.words(config.reads) <= _LONGEST_CALIBRATED] or list(shown)
    derived_random(config.seed, "calibration").shuffle(tasks)
    return [Example(t.instruction, t.input, t.output) for t in tasks[: config.feedback.calibrated_on]]


def generated_instructions(store: Store) -> list[Instruction]:
    return store.instructions(origin="generated", status="kept")
