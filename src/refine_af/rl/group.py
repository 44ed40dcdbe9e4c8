"""GRPO and RLOO: several responses to one prompt are compared with one another, in place of a critic.

The algorithms are TRL's trainers. Here stands what they leave to others: responses come from any engine with their
scores, an iteration ends with a checkpoint and its figures, and the network is given back as it was.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from transformers import TrainerCallback
from transformers.trainer_callback import PrinterCallback
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from refine_af.config import PolicyConfig
from refine_af.errors import UsageError
from refine_af.lora import adaptable_layers, lora_config, save_adapter, take_off
from refine_af.models import check_targets, quiet_libraries
from refine_af.records import derived_seed
from refine_af.rl.responses import Trajectory

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# What TRL calls what is watched. Its policy loss has GRPO's KL penalty in it.
_FIGURES = {
    "loss": "policy_loss",
    "entropy": "entropy",
    "clip_ratio/region_mean": "clip_share",
    "grad_norm": "gradient_norm",
}


@dataclass(frozen=True, slots=True)
class Learned:
    """An iteration's figures, and what writes all from which training goes on into an empty folder."""

    figures: dict[str, float]
    save: Callable[[Path], None]


# The scored responses of an iteration, counted from 1: those to one prompt next to one another.
Sample = Callable[[int], Sequence[tuple[Trajectory, float]]]


def train_in_groups(
    network: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    config: PolicyConfig,
    sample: Sample,
    learned: Callable[[int, Learned], bool],
    *,
    responses: int,
    end: int,
    temperature: float,
    label: str,
    seed: int,
    work: Path,
    resume: Path | None = None,
) -> None:
    """Trains an adapter on ``network`` for all iterations; those before the checkpoint ``resume`` are done.

    ``responses`` come of an iteration, ``end`` is the token that stands for an empty one, ``temperature`` what they
    are sampled at, ``label`` the model's name, ``work`` a folder for unfinished checkpoints. While ``sample`` runs, the
    network is the policy, in evaluation mode. ``learned`` says whether to stop.
    """
    shutil.rmtree(work, ignore_errors=True)
    with quiet_libraries():
        trainer = _trainer(
            network, tokenizer, config, responses, temperature=temperature, label=label, seed=seed, work=work
        )
        trainer.sample, trainer.end = sample, end
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(_Iterations(trainer, learned))
        try:
            trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
        finally:
            take_off(network, trainer)
            shutil.rmtree(work, ignore_errors=True)


@torch.no_grad()
def check_padding(network: PreTrainedModel, algorithm: str, label: str) -> None:
    """Raises UsageError where a row that is padded on the left has other logits than alone. TRL pads prompts so, and
    gives a mask alone: positions that are counted from the first column (GPT-2) and states (RWKV) don't heed it."""
    row, pads = [5, 9, 3, 8, 4, 7], 3
    mask = torch.tensor([[0] * pads + [1] * len(row)], device=network.device)
    padded = torch.tensor([[0] * pads + row], device=network.device)
    found = network(input_ids=padded, attention_mask=mask, use_cache=False).logits[:, pads:]
    expected = network(input_ids=padded[:, pads:], use_cache=False).logits
    allowed = 1e-4 if expected.dtype == torch.float32 else 0.1
    if (found - expected).float().norm() > allowed * expected.float().norm():
        raise UsageError(
            f"policy.algorithm={algorithm} pads prompts on the left, which changes what {label} computes "
            f"({type(network).__name__}); set it to ppo"
        )


def _trainer(
    network: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    config: PolicyConfig,
    responses: int,
    *,
    temperature: float,
    label: str,
    seed: int,
    work: Path,
) -> Any:
    check_targets("policy.lora", config.lora.targets, adaptable_layers(network), label)
    check_padding(network, config.algorithm, label)
    on_gpu = network.device.type == "cuda"
    micro = min(config.micro_batch, config.minibatch)
    steps = config.epochs * responses // config.minibatch  # of the optimiser, in an iteration
    settings, trainer = {"grpo": (GRPOConfig, _Grpo), "rloo": (RLOOConfig, _Rloo)}[config.algorithm]
    # A row is a prompt's turn in an iteration, and its text the iteration's number, by which responses are asked for.
    groups = responses // config.group_size
    rows = [str(i) for i in range(1, config.iterations + 1) for _ in range(groups)]
    arguments = settings(
        output_dir=str(work),
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=config.minibatch // micro,
        generation_batch_size=responses,
        num_generations=config.group_size,
        num_iterations=config.epochs,
        max_steps=config.iterations * steps,
        logging_steps=steps,
        save_steps=steps,
        shuffle_dataset=False,
        temperature=temperature,
        beta=config.kl_coefficient,
        epsilon=config.clip_range,
        learning_rate=config.learning_rate,
        lr_scheduler_type="constant",
        max_grad_norm=config.max_grad_norm,
        seed=seed,
        bf16=on_gpu,
        use_cpu=not on_gpu,
        gradient_checkpointing=on_gpu or config.gradient_checkpointing,
        dataloader_pin_memory=on_gpu,
        disable_tqdm=True,
        report_to="none",
    )
    made = trainer(
        model=network,
        reward_funcs=given_scores,
        args=arguments,
        train_dataset=Dataset.from_dict({"prompt": rows}),
        processing_class=tokenizer,
        peft_config=lora_config(config.lora),
    )
    made.model.peft_config["default"].base_model_name_or_path = label
    return made


def given_scores(completions: Sequence[float], **kwargs: Any) -> list[float]:
    """TRL's reward function: the responses were judged where they were made, and their scores stand for their texts."""
    return list(completions)


class _FromOutside:
    """What both trainers have changed: where responses come from, and what a checkpoint holds."""

    model: Any
    args: Any
    sample: Sample
    end: int
    tokens_each = 0.0  # of a response, in the mean

    def _responses(self, prompts: Sequence[str]) -> tuple[list[list[int]], list[list[int]], list[float]]:
        """Token ids of the prompts and of their responses, and scores."""
        iteration = int(prompts[0])
        self.model.eval()
        scored = self.sample(iteration)
        self.model.train()
        if len(scored) != len(prompts):
            raise ValueError(f"{len(scored)} responses for {len(prompts)} prompts")
        # TRL shuffles what it is given; from the seed, so that an iteration doesn't hang on those before it.
        torch.manual_seed(derived_seed(self.args.seed, "order", iteration))
        asked = [[*one.prefix_ids, *one.prompt_ids] for one, _ in scored]
        # An empty response is an immediate end whose token the engine left out.
        answered = [list(one.response_ids) or [self.end] for one, _ in scored]
        self.tokens_each = sum(map(len, answered)) / len(answered)
        return asked, answered, [score for _, score in scored]

    def _save(self, output_dir: str, state_dict: Any = None) -> None:
        save_adapter(self.model, Path(output_dir))

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """None: a checkpoint is for nobody to read."""

    def _send_telemetry(self) -> None:
        """None."""


class _Grpo(_FromOutside, GRPOTrainer):
    def _generate(self, prompts: list[str]) -> tuple[Any, ...]:
        asked, answered, scores = self._responses(prompts)
        return asked, answered, None, scores, None, {}, None, []


class _Rloo(_FromOutside, RLOOTrainer):
    def _generate(self, prompts: list[str]) -> tuple[Any, ...]:
        return self._responses(prompts)


class _Iterations(TrainerCallback):
    """Hands on the figures and the checkpoint of each iteration when TRL has written both."""

    def __init__(self, trainer: Any, learned: Callable[[int, Learned], bool]) -> None:
        self._trainer = trainer
        self._learned = learned
        self._figures: dict[str, float] = {}

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **kwargs: Any) -> None:
        if "loss" in logs:
            self._figures = {ours: logs[theirs] for theirs, ours in _FIGURES.items()}
            if "kl" in logs:  # a token's; there is none where the penalty has no weight
                self._figures["kl"] = logs["kl"] * self._trainer.tokens_each

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        written = Path(args.output_dir) / f"checkpoint-{state.global_step}"

        def save(folder: Path) -> None:
            for file in written.iterdir():
                file.rename(folder / file.name)

        stop = self._learned(state.global_step // args.save_steps, Learned(self._figures, save))
        control.should_training_stop = control.should_training_stop or stop
        shutil.rmtree(written)
