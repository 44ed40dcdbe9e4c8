"""Takes the seed tasks into the run and holds a share of them out for the evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from refine_af.config import Config
from refine_af.language import unseen_note
from refine_af.records import Instance, Instruction, SeedTask, StageCounts, content_id
from refine_af.seeds import choose_held_out, load_seeds
from refine_af.stages.context import Context

STAGE = "seeds"


def run_seeds(context: Context) -> str:
    loaded = load_seeds(context.config.seeds.path)
    held_out = choose_held_out(loaded.tasks, context.config.seeds.held_out, context.config.seed)
    shown = len(loaded.tasks) - len(held_out)
    context.progress.begin(STAGE, len(loaded.tasks), "tasks")
    with context.store.transaction():
        for note in (*loaded.notes, *_of_language(context.config, loaded.tasks)):
            context.warn(STAGE, note)
        context.store.add_instructions(_instruction(t, t.id in held_out) for t in loaded.tasks)
        context.store.add_instances(
            Instance(
                id=content_id("seed", t.id, t.input, t.output),
                instruction_id=t.id,
                input=t.input,
                output=t.output,
                model="people",
                policy="seed",
            )
            for t in loaded.tasks
        )
        context.store.finish_stage(STAGE, StageCounts(read=len(loaded.tasks), kept=len(loaded.tasks)))
    return f"{shown} to learn from, {len(held_out)} held out for the evaluation"


def _of_language(config: Config, tasks: Sequence[SeedTask]) -> Iterator[str]:
    """Where the config's language and what the run is made of don't go together, a sentence each."""
    texts = (text for task in tasks for text in (task.instruction, task.input, task.output))
    if note := unseen_note(texts, "the seeds", config.reads, "language"):
        yield note
    if config.reads.is_english:
        return
    if config.seeds.path is None:
        yield f"language is {config.language}, but the built-in seeds are English; bring your own with seeds.path"


def _instruction(task: SeedTask, held_out: bool) -> Instruction:
    return Instruction(
        id=task.id,
        text=task.instruction,
        is_classification=task.is_classification,
        needs_input=bool(task.input),
        origin="seed",
        round=0,
        model="people",
        prompt_ids=(),
        nearest_id=None,
        nearest_rouge_l=None,
        status="held_out" if held_out else "kept",
    )
