"""Takes the seed tasks into the run and holds a share of them out for the evaluation."""

from __future__ import annotations

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
        for note in loaded.notes:
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
