"""Fine-tunes the base model on pairs, the selected ones or an arm's: TRL's SFTTrainer, LoRA, loss on the response
alone."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from refine_af.feedback.base import Example
from refine_af.loading import torch_device
from refine_af.models import build_once, quiet_libraries
from refine_af.prompts.answers import answer_frame
from refine_af.prompts.training import TrainingTexts
from refine_af.records import Instance, StageCounts, derived_seed
from refine_af.stages.context import Context

STAGE = "finetune"
_COMPLETE = "complete"  # written into a checkpoint after everything else in it


def run_finetune(context: Context) -> str:
    store, selected = context.store, context.store.instances(selected=True)
    tune(context, selected, context.folder / "model", derived_seed(context.config.seed, STAGE), STAGE)
    losses = [value for _, value in store.metric(STAGE, "loss")]
    store.finish_stage(STAGE, StageCounts(read=len(selected), kept=len(selected)))
    return f"{len(selected)} pairs, {len(losses)} steps, loss {losses[0]:.3f} to {losses[-1]:.3f}"


def tune(context: Context, pairs: Sequence[Instance], target: Path, seed: int, name: str) -> None:
    """Trains an adapter of the base model on the pairs into ``target``, or goes on from the last checkpoint.

    Figures are kept as metrics of ``name``, under which progress is shown and checkpoints stand until the end. The
    result depends on the pairs, their order, the config and ``seed`` alone.
    """
    work = context.folder / "checkpoints" / name
    if not target.is_dir():
        from refine_af.lora import save_adapter, take_off

        rows, too_long = training_rows(context, pairs)
        if too_long:
            longest = context.config.finetune.max_length
            context.warn(
                name, f"{too_long} pairs were cut to finetune.max_length={longest}; if these are many, raise it"
            )
        with quiet_libraries():
            trainer = _trainer(context, rows, work, seed, name)
            resume = last_complete_checkpoint(work)
            steps = trainer.args.max_steps
            context.progress.begin(name, steps, "steps", int(resume.name.split("-")[1]) if resume else 0)
            try:
                trainer.train(resume_from_checkpoint=str(resume) if resume else None)
                build_once(target, lambda to: save_adapter(trainer.model, to))
            finally:
                take_off(context.parts.network, trainer)
    shutil.rmtree(work, ignore_errors=True)


def training_rows(context: Context, pairs: Sequence[Instance]) -> tuple[list[dict[str, list[int]]], int]:
    """Token ids and labels (−100 on the prompt) of each pair, and how many were cut to max_length."""
    parts = context.parts
    text_of = TrainingTexts(
        parts.tokenizer, answer_frame(parts.dialect), parts.ends.closing, context.config.finetune.max_length
    )
    texts = {i.id: i.text for i in context.store.instructions()}
    rows, cut = [], 0
    for one in pairs:
        text = text_of(Example(texts[one.instruction_id], one.input, one.output))
        ids = [*text.prompt, *text.response]
        cut += text.is_cut
        rows.append({"input_ids": ids, "labels": [-100] * len(text.prompt) + ids[len(text.prompt) :]})
    return rows, cut


def _trainer(context: Context, rows: list[dict[str, list[int]]], work: Path, seed: int, name: str) -> Any:
    import torch
    from datasets import Dataset
    from datasets.utils.logging import disable_progress_bar
    from trl import SFTConfig, SFTTrainer

    from refine_af.lora import lora_config

    disable_progress_bar()
    config = context.config.finetune
    on_gpu = torch_device(context.config.model) == "cuda"
    micro = min(config.micro_batch, config.batch_size)
    steps = config.epochs * -(-len(rows) // config.batch_size)
    arguments = SFTConfig(
        output_dir=str(work),
        max_steps=steps,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=config.batch_size // micro,
        learning_rate=config.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=steps // 20,
        max_length=config.max_length,
        seed=seed,
        logging_steps=1,
        save_strategy="steps",
        save_steps=config.checkpoint_steps,
        save_total_limit=2,
        bf16=on_gpu,
        use_cpu=not on_gpu,
        gradient_checkpointing=on_gpu,
        dataloader_pin_memory=on_gpu,
        disable_tqdm=True,
        report_to="none",
    )
    torch.manual_seed(arguments.seed)  # the adapter's first weights
    trainer = SFTTrainer(
        model=context.parts.network,
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=context.parts.tokenizer,
        peft_config=lora_config(config.lora),
        callbacks=[_reporter(context, name)],
    )
    trainer.remove_callback(_printer())
    return trainer


def _printer() -> type:
    from transformers.trainer_callback import PrinterCallback

    return PrinterCallback


def _reporter(context: Context, name: str) -> Any:
    """Keeps the figures of each step, shows them, and marks a checkpoint when all of it is written."""
    from transformers import TrainerCallback

    class Reporter(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **kwargs: Any) -> None:
            if "loss" in logs:
                kept = {k: v for k, v in logs.items() if k in ("loss", "learning_rate", "grad_norm")}
                context.store.add_metrics(name, state.global_step, kept)
                context.progress.update(state.global_step, {"loss": f"{logs['loss']:.3f}"})

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            (Path(args.output_dir) / f"checkpoint-{state.global_step}" / _COMPLETE).touch()

    return Reporter()


def last_complete_checkpoint(work: Path) -> Path | None:
    """The latest checkpoint that was written to its end; half-written ones are removed."""
    checkpoints = sorted(work.glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
    for checkpoint in checkpoints:
        if not (checkpoint / _COMPLETE).exists():
            shutil.rmtree(checkpoint)
    complete = [c for c in checkpoints if c.exists()]
    return complete[-1] if complete else None
