"""Every option of a run: its type, range, unit, default and one line of help. Users write it as YAML or ``--set``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from refine_af.config.experiment import ExperimentConfig
from refine_af.config.feedback import FeedbackConfig
from refine_af.config.model import ModelConfig
from refine_af.config.section import Natural, Positive, PositiveShare, Section, Share
from refine_af.language import Language


class SeedsConfig(Section):
    """The tasks written by people."""

    path: str | None = Field(None, description="JSONL (Self-Instruct's or simple) or CSV; none: the 175 built-in tasks")
    held_out: Share = Field(0.2, description="share kept back for the evaluation and never shown to a generator")


class SamplingConfig(Section):
    """How completions are sampled."""

    max_tokens: Positive = Field(64, description="longest completion, in tokens")
    temperature: Annotated[float, Field(ge=0, le=5)] = Field(0.8, description="0 is greedy")
    top_p: PositiveShare = Field(0.9, description="nucleus sampling's mass")
    top_k: Natural = Field(0, description="sample from the likeliest tokens alone; 0: from all")
    repetition_penalty: Annotated[float, Field(ge=1, le=2)] = Field(1.0, description="1 is none")


class InstructionsConfig(Section):
    """Bootstrapping: new instructions out of the seeds and the kept ones."""

    target: Positive = Field(100, description="instructions to keep; rounds go on until they are reached")
    method: Literal["list", "openings"] = Field(
        "list",
        description="list: the model goes on with a list of tasks, as in Self-Instruct; openings: it goes on with the "
        "first words of one, several times, and the likeliest that is new is kept (for small models)",
    )
    continuations: Positive = Field(4, description="of an opening")
    demonstrations: Annotated[int, Field(ge=1, le=15)] = Field(8, description="instructions shown in a prompt")
    from_pool: Natural = Field(2, description="of which the model's own, once it has some")
    max_demonstration_words: Positive = Field(150, description="longest instruction that is shown")
    prompts_per_round: Positive = Field(16, description="prompts completed in a round")
    min_words: Natural = Field(4, description="shortest instruction that is kept")
    max_words: Positive = Field(150, description="longest instruction that is kept")
    novelty_threshold: PositiveShare = Field(0.7, description="ROUGE-L above which an instruction is a repetition")
    saturation_yield: Share = Field(0.02, description="yield of a round under which it counts as saturated")
    saturation_rounds: Positive = Field(5, description="saturated rounds in a row after which the stage stops")
    max_rounds: Positive = Field(10_000, description="rounds after which the stage stops in any case")
    sampling: SamplingConfig = SamplingConfig(max_tokens=128, temperature=0.7, top_p=0.9, repetition_penalty=1.05)


class LoraSettings(Section):
    """A low-rank adapter."""

    rank: Positive = Field(16, description="rank of the update")
    alpha: Positive = Field(32, description="the update is scaled by alpha / rank")
    targets: tuple[str, ...] = Field(("q_proj", "v_proj"), min_length=1, description="layers that get an adapter")


class GuardsConfig(Section):
    """When a policy's training is slowed down or stopped."""

    kl_limit: Annotated[float, Field(gt=0)] | None = Field(
        5.0,
        description="KL over so many times policy.kl_target halves the steps, and stops where it stays; none: never",
    )
    diversity: Share = Field(0.6, description="distinct-2 under this share of the first iteration's stops")
    patience: Positive = Field(3, description="iterations in a row after which KL or diversity stops")
    witness: str | None = Field(
        "relevance",
        min_length=1,
        description="scorer outside the reward that must not fall while held-out reward rises; none: no such guard",
    )


class PolicyConfig(Section):
    """Reinforcement learning of the policy that writes input-output pairs."""

    algorithm: Literal["ppo", "grpo", "rloo", "mipo", "best_of_n", "none"] = Field(
        "ppo",
        description="how the policy learns. Controls: mipo learns from no reward, but prefers what it wrote to what it "
        "wrote for another instruction; best_of_n leaves the model as it is and turns the rollouts into more "
        "candidates, none does without them",
    )
    action: Literal["pair", "answer"] = Field(
        "pair",
        description="what the reward is for: all that is written of a pair, as in the paper; or its answer (or label) "
        "alone, and in grpo and rloo those to be compared answer the same input",
    )
    iterations: Positive = Field(200, description="rollout-and-update cycles")
    rollouts: Annotated[int, Field(ge=2)] = Field(64, description="completions sampled in an iteration")
    group_size: Annotated[int, Field(ge=2)] = Field(
        4,
        description="rollouts of one instruction, which grpo and rloo compare with one another; about so many where "
        "it doesn't divide policy.rollouts",
    )
    epochs: Positive = Field(2, description="passes over an iteration's rollouts")
    minibatch: Positive = Field(16, description="rollouts in an optimiser step")
    micro_batch: Positive = Field(8, description="rollouts in one forward pass; memory grows with it")
    gradient_checkpointing: bool = Field(
        False,
        description="layers keep their inputs alone and compute the rest again: less memory, more time; what prompts "
        "share is not shared then",
    )
    learning_rate: Annotated[float, Field(gt=0, lt=1)] = Field(5e-5, description="AdamW's, for the adapter")
    value_learning_rate: Annotated[float, Field(gt=0, lt=1)] = Field(1e-3, description="AdamW's, for the value head")
    critic: Literal["head", "adapter"] = Field(
        "head",
        description="what judges states in ppo: a value head on the policy's own; or on those of a second adapter, "
        "which learns for it alone and costs each pass twice",
    )
    kl_coefficient: Annotated[float, Field(ge=0)] = Field(0.05, description="first weight of the KL penalty")
    kl_target: Annotated[float, Field(gt=0)] = Field(6.0, description="nats a response that the controller aims at")
    gamma: PositiveShare = Field(1.0, description="discount")
    gae_lambda: Share = Field(
        1.0,
        description="GAE's trade of bias and variance; below 1 a score at the end of a response fades towards its "
        "beginning",
    )
    clip_range: Annotated[float, Field(gt=0, lt=1)] = Field(0.2, description="clip of the probability ratio")
    importance_cap: Annotated[float, Field(ge=1)] | None = Field(
        2.0, description="cap of the weights for engine and trainer not being the same policy; none: no such weights"
    )
    max_grad_norm: Annotated[float, Field(gt=0)] = Field(1.0, description="gradients longer than this are scaled")
    fault_penalty: Annotated[float, Field(ge=0)] = Field(
        1.0,
        description="how much less than the iteration's sound pairs one is paid that has no end, breaks a named rule "
        "or fails a gate of the reward",
    )
    held_out: Positive = Field(64, description="instructions kept out of training, scored before and after")
    held_out_samples: Positive = Field(2, description="completions scored for each of them")
    held_out_every: Natural = Field(
        10, description="iterations between two checks on them, one completion for each; 0: before and after alone"
    )
    guards: GuardsConfig = GuardsConfig()
    report_to: tuple[Literal["trackio", "tensorboard", "wandb", "mlflow"], ...] = Field(
        (), description="trackers that are sent the figures of every iteration"
    )
    lora: LoraSettings = LoraSettings()

    @property
    def in_groups(self) -> bool:
        """Whether a response is compared with others to the same instruction."""
        return self.algorithm in ("grpo", "rloo")

    def groups(self, rollouts: int) -> list[int]:
        """How many of the rollouts each instruction gets, in their order: as near ``group_size`` as they can be shared
        out evenly, and never one alone, which would have nothing to be compared with."""
        if not self.in_groups:
            return [1] * rollouts
        count = max(1, min(round(rollouts / self.group_size), rollouts // 2))
        size, larger = divmod(rollouts, count)
        return [size + 1] * larger + [size] * (count - larger)

    @property
    def has_critic(self) -> bool:
        """Whether a critic judges responses token by token."""
        return self.algorithm == "ppo"

    @property
    def has_own_critic(self) -> bool:
        """Whether a critic with an adapter of its own learns beside the policy."""
        return self.has_critic and self.critic == "adapter"

    @property
    def trains(self) -> bool:
        """Whether there is a tuned policy beside the initial one."""
        return self.algorithm not in ("best_of_n", "none")

    @model_validator(mode="after")
    def _critic_has_a_use(self) -> PolicyConfig:
        if self.trains and not self.has_critic and self.critic == "adapter":
            raise ValueError(f"critic is adapter, but {self.algorithm} has no critic; leave it out, or take ppo")
        return self


class InstancesConfig(Section):
    """Writing the pairs, with the tuned policy and with the initial one as the control."""

    inputs: Literal["auto", "always", "never"] = Field(
        "auto", description="whether a pair has an input: auto decides for each instruction, as the seeds have them"
    )
    opened_inputs: bool = Field(
        False,
        description="whether an input opens with the first words of the seed task's that is most like its instruction "
        "(for small models; takes the sentence encoder)",
    )
    candidates: Positive = Field(4, description="pairs for an instruction and a policy")
    per_instruction: Annotated[int, Field(ge=1, le=5)] = Field(1, description="best candidates that are selected")
    demonstrations: Annotated[int, Field(ge=0, le=15)] = Field(
        3, description="seed tasks shown where an input or a label is written"
    )
    answer_demonstrations: Annotated[int, Field(ge=0, le=15)] | None = Field(
        None, description="shown where an answer is written; none: 0 to a chat model, else as many as demonstrations"
    )
    system: str = Field("", description="system message with which answers are asked for, such as how long to be")
    max_demonstration_words: Positive = Field(60, description="longest seed task that is shown, pair included")
    min_reward: float | None = Field(None, description="pairs under it are not selected")
    sampling: SamplingConfig = SamplingConfig(max_tokens=256, temperature=0.8, top_p=0.9)


class FinetuneConfig(Section):
    """Supervised fine-tuning of the base model on the selected pairs."""

    epochs: Positive = Field(2, description="passes over the data set")
    learning_rate: Annotated[float, Field(gt=0, lt=1)] = Field(1e-4, description="AdamW's peak")
    batch_size: Positive = Field(8, description="pairs in an optimiser step")
    micro_batch: Positive = Field(8, description="pairs in one forward pass")
    max_length: Positive = Field(1024, description="tokens of prompt and response; longer pairs are cut")
    checkpoint_steps: Positive = Field(10, description="optimiser steps between two checkpoints")
    lora: LoraSettings = LoraSettings()

    @model_validator(mode="after")
    def _micro_batches_fill_batches(self) -> FinetuneConfig:
        if self.batch_size % min(self.micro_batch, self.batch_size):
            raise ValueError(f"batch_size {self.batch_size} must be a multiple of micro_batch {self.micro_batch}")
        return self


class EvaluationConfig(Section):
    """Base and tuned model on the held-out seed tasks, greedy."""

    max_tokens: Positive = Field(128, description="longest answer, in tokens")
    cut: Literal["none", "first_line", "blank_line"] = Field("none", description="where an answer that runs on is cut")


class Config(Section):
    """A whole run."""

    seed: Natural = Field(0, description="every random choice comes from it")
    threads: Natural = Field(0, description="CPU threads; 0: all cores")
    language: str = Field(
        "en",
        description="code of the language of the seeds and of all that is written, such as en, zh or ar; mul for "
        "several. It decides how texts are cut into words, and rules of English words apply to English alone",
    )
    model: ModelConfig = ModelConfig()
    seeds: SeedsConfig = SeedsConfig()
    instructions: InstructionsConfig = InstructionsConfig()
    feedback: FeedbackConfig = FeedbackConfig()
    policy: PolicyConfig = PolicyConfig()
    instances: InstancesConfig = InstancesConfig()
    finetune: FinetuneConfig = FinetuneConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    experiment: ExperimentConfig = ExperimentConfig()

    @field_validator("language", mode="before")
    @classmethod
    def _is_a_code(cls, value: Any) -> Any:
        if value is False:
            return "no"  # as YAML reads the code of Norwegian
        if isinstance(value, str):
            Language(value)
        return value

    @property
    def reads(self) -> Language:
        """How the run's texts are read."""
        return Language(self.language)

    def candidates(self, instructions: int) -> int:
        """Completions that a policy writes for each of so many instructions; under best_of_n the initial policy writes
        those too that training would have sampled."""
        extra = self.sampled_in_training(instructions) if self.policy.algorithm == "best_of_n" else 0
        return self.instances.candidates + extra

    def feedbacks_of_arms(self) -> dict[str, Config]:
        """By name this config with each feedback that an arm has of its own, at the defaults of the weights."""
        found = {}
        for name in dict.fromkeys(arm.feedback for arm in self.experiment.arms):
            if name is not None:
                scorers = {label: one for label, one in self.feedback.scorers.items() if name in ("composite", label)}
                feedback = self.feedback.model_copy(update={"name": name, "weights": {}, "scorers": scorers})
                found[name] = self.model_copy(update={"feedback": feedback})
        return found

    def sampled_in_training(self, instructions: int) -> int:
        """The completions that training samples, shared out evenly among so many instructions and rounded up."""
        return -(-self.policy.iterations * self.policy.rollouts // instructions)

    @model_validator(mode="after")
    def _arms_can_be_made(self) -> Config:
        arms, algorithm = self.experiment.arms, self.policy.algorithm
        tuned = next((arm.name for arm in arms if arm.policy == "tuned"), None)
        if tuned and not self.policy.trains:
            raise ValueError(
                f"experiment.arms has {tuned}, but policy.algorithm={algorithm} trains nothing: set it to ppo"
            )
        if arms and algorithm == "best_of_n":
            raise ValueError(
                "policy.algorithm best_of_n gives the initial policy more candidates, so that it is no control; "
                "set it to none and name best_of_n in experiment.arms"
            )
        largest, target = max(self.experiment.sizes, default=0), self.instructions.target
        if arms and largest > target:
            raise ValueError(f"experiment.sizes ({largest}) is over instructions.target ({target}): raise the target")
        return self
