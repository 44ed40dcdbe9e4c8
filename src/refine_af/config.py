"""Every option of a run: its type, range, unit, default and one line of help. Users write it as YAML or ``--set``."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from refine_af.errors import UsageError

PRESETS = ("embedded", "paper-llama2-7b", "paper-llama2-13b", "paper-mistral-7b")

Share = Annotated[float, Field(ge=0, le=1)]
PositiveShare = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]

_EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)


class ModelConfig(_Section):
    """The model that writes, is tuned and is evaluated."""

    name: str = Field(
        "embedded", min_length=1, description='"embedded" (SmolLM2-135M-Instruct), a local folder, or a Hub name'
    )
    revision: str | None = Field(None, description="branch, tag or commit of a Hub model")
    engine: Literal["auto", "ctranslate2", "transformers"] = Field(
        "auto", description="what generates: auto takes ctranslate2 on a CPU where it knows the architecture"
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where torch computes")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="weights in memory: auto is float32 on a CPU, bfloat16 on a GPU"
    )
    quantization: Literal["int8", "float32"] = Field("int8", description="weights in the ctranslate2 engine")
    batch_size: Positive = Field(32, description="completions generated at once")


class SeedsConfig(_Section):
    """The tasks written by people."""

    path: str | None = Field(None, description="JSONL (Self-Instruct's or simple) or CSV; none: the 175 built-in tasks")
    held_out: Share = Field(0.2, description="share kept back for the evaluation and never shown to a generator")


class SamplingConfig(_Section):
    """How completions are sampled."""

    max_tokens: Positive = Field(64, description="longest completion, in tokens")
    temperature: Annotated[float, Field(ge=0, le=5)] = Field(0.8, description="0 is greedy")
    top_p: PositiveShare = Field(0.9, description="nucleus sampling's mass")
    top_k: Natural = Field(0, description="sample from the likeliest tokens alone; 0: from all")
    repetition_penalty: Annotated[float, Field(ge=1, le=2)] = Field(1.0, description="1 is none")


class InstructionsConfig(_Section):
    """Bootstrapping: new instructions out of the seeds and the kept ones."""

    target: Positive = Field(100, description="instructions to keep; rounds go on until they are reached")
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


class ScorerConfig(_Section):
    """A scorer in a composite reward. What a scorer has no use for must not be given."""

    use: str | None = Field(
        None, min_length=1, description="the scorer: a known name, module:attribute or an entry point; none: the label"
    )
    weight: float | None = Field(
        None, description="what a point is worth; none: 1 where high values are better, -1 where low ones are"
    )
    calibrated: bool = Field(
        True, description="whether the value is taken as a standard score against the seeds' pairs"
    )
    clip: Annotated[float, Field(gt=0)] | None = Field(
        None, description="values enter within ± clip; none: 2 where calibrated, else without a limit"
    )
    minimum: float | None = Field(None, description="a gate: a raw value under it caps the reward")
    maximum: float | None = Field(None, description="a gate: a raw value over it caps the reward")
    cap: float | None = Field(None, description="the most that a pair can get whose gate failed; none: the floor")
    model: str | None = Field(None, min_length=1, description="the scorer's model: a local folder or a Hub name")
    revision: str | None = Field(None, description="branch, tag or commit of a Hub model")
    question: str | None = Field(None, min_length=1, description="what a judge is asked, to be answered Yes or No")
    base_url: str | None = Field(None, min_length=1, description="OpenAI-compatible endpoint that a judge is asked at")
    api_key_env: str | None = Field(None, min_length=1, description="environment variable that holds its key")
    free: Positive | None = Field(None, description="words up to which an output may be a copy")
    neighbours: Positive | None = Field(None, description="the neighbour to which the distance is measured")


class FeedbackConfig(_Section):
    """What the reward is made of."""

    name: str = Field(
        "embedded",
        description="embedded, instructmining_v1, instructmining_v2, composite, a scorer's name, or a function or "
        "class as module:attribute or entry point",
    )
    weights: dict[str, float] = Field(
        default_factory=dict, description="weight of a component of a named reward, in place of its default"
    )
    scorers: dict[str, ScorerConfig] = Field(
        default_factory=dict, description="what a composite is made of: a label of your choice, and settings"
    )
    batch_size: Positive = Field(32, description="pairs that a scorer's model reads at once")
    calibrated_on: Positive = Field(32, description="seed pairs against which rewards are standardised")


class LoraSettings(_Section):
    """A low-rank adapter."""

    rank: Positive = Field(16, description="rank of the update")
    alpha: Positive = Field(32, description="the update is scaled by alpha / rank")
    targets: tuple[str, ...] = Field(("q_proj", "v_proj"), min_length=1, description="layers that get an adapter")


class PolicyConfig(_Section):
    """Reinforcement learning of the policy that writes input-output pairs."""

    algorithm: Literal["ppo", "grpo", "rloo", "best_of_n", "none"] = Field(
        "ppo",
        description="how the policy learns. Controls that leave the model as it is: best_of_n turns the rollouts into "
        "more candidates, none does without them",
    )
    iterations: Positive = Field(200, description="rollout-and-update cycles")
    rollouts: Annotated[int, Field(ge=2)] = Field(64, description="completions sampled in an iteration")
    group_size: Annotated[int, Field(ge=2)] = Field(
        4, description="rollouts of one instruction, which grpo and rloo compare with one another"
    )
    epochs: Positive = Field(2, description="passes over an iteration's rollouts")
    minibatch: Positive = Field(16, description="rollouts in an optimiser step")
    micro_batch: Positive = Field(8, description="rollouts in one forward pass; memory grows with it")
    learning_rate: Annotated[float, Field(gt=0, lt=1)] = Field(5e-5, description="AdamW's, for the adapter")
    value_learning_rate: Annotated[float, Field(gt=0, lt=1)] = Field(1e-3, description="AdamW's, for the value head")
    kl_coefficient: Annotated[float, Field(ge=0)] = Field(0.05, description="first weight of the KL penalty")
    kl_target: Annotated[float, Field(gt=0)] = Field(6.0, description="nats a response that the controller aims at")
    gamma: PositiveShare = Field(1.0, description="discount")
    gae_lambda: Share = Field(0.95, description="GAE's trade of bias and variance")
    clip_range: Annotated[float, Field(gt=0, lt=1)] = Field(0.2, description="clip of the probability ratio")
    value_clip_range: Annotated[float, Field(gt=0)] = Field(0.2, description="clip of the value's change")
    max_grad_norm: Annotated[float, Field(gt=0)] = Field(1.0, description="gradients longer than this are scaled")
    unended_penalty: Annotated[float, Field(ge=0)] = Field(
        1.0, description="taken off the reward of a response that has no end"
    )
    held_out: Positive = Field(64, description="instructions kept out of training, scored before and after")
    held_out_samples: Positive = Field(2, description="completions scored for each of them")
    lora: LoraSettings = LoraSettings()

    @property
    def in_groups(self) -> bool:
        """Whether a response is compared with others to the same instruction; else a critic judges it."""
        return self.algorithm in ("grpo", "rloo")

    @property
    def trains(self) -> bool:
        """Whether there is a tuned policy beside the initial one."""
        return self.algorithm not in ("best_of_n", "none")

    @model_validator(mode="after")
    def _groups_fill_iterations(self) -> PolicyConfig:
        parts = (("group_size", self.group_size), ("minibatch", self.minibatch))
        for name, part in parts if self.in_groups else ():
            if self.rollouts % part:
                raise ValueError(f"{self.algorithm} needs rollouts ({self.rollouts}) in multiples of {name} ({part})")
        if self.in_groups and self.minibatch % min(self.micro_batch, self.minibatch):
            raise ValueError(
                f"{self.algorithm} needs minibatch ({self.minibatch}) in multiples of micro_batch ({self.micro_batch})"
            )
        return self


class InstancesConfig(_Section):
    """Writing the pairs, with the tuned policy and with the initial one as the control."""

    candidates: Positive = Field(4, description="completions for an instruction and a policy")
    per_instruction: Annotated[int, Field(ge=1, le=5)] = Field(1, description="best candidates that are selected")
    demonstrations: Annotated[int, Field(ge=0, le=15)] = Field(2, description="seed tasks shown in a prompt")
    max_demonstration_words: Positive = Field(60, description="longest seed task that is shown, pair included")
    min_reward: float | None = Field(None, description="pairs under it are not selected")
    sampling: SamplingConfig = SamplingConfig(max_tokens=256, temperature=0.8, top_p=0.9)


class FinetuneConfig(_Section):
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


class EvaluationConfig(_Section):
    """Base and tuned model on the held-out seed tasks, greedy."""

    max_tokens: Positive = Field(128, description="longest answer, in tokens")
    cut: Literal["none", "first_line", "blank_line"] = Field("none", description="where an answer that runs on is cut")


ArmName = Literal["initial", "tuned", "best_of_n"]


class ExperimentConfig(_Section):
    """The paper's comparison: one data set for each arm from the same instructions, the base model tuned on each, all
    evaluated on the same tasks."""

    arms: tuple[ArmName, ...] = Field(
        (),
        description="whose pairs make the data sets, the control first; none: no experiment. initial: the policy "
        "before training, tuned: after it, best_of_n: before it, the best of as many more as training sampled",
    )
    seeds: tuple[Natural, ...] = Field((0,), min_length=1, description="each data set is trained on once for each seed")
    sizes: tuple[Positive, ...] = Field(
        (), description="instructions in a data set, one training for each size; none: all that every arm has"
    )
    tasks: str | None = Field(
        None, min_length=1, description="what `refine-af evaluate --tasks` takes; none: the held-out seed tasks"
    )
    instances: Positive | None = Field(None, description="first instances of each task; none: all")
    shots: Literal[0, 2] = Field(0, description="positive examples shown")
    max_source: Positive = Field(1024, description="longest source, in tokens; what is longer is cut")
    max_target: Positive = Field(128, description="longest answer, in tokens")
    cut: Literal["none", "first_line", "blank_line"] = Field("none", description="where an answer that runs on is cut")
    prompt: Literal["auto", "plain", "chat"] = Field("auto", description="auto: the chat template where there is one")

    @model_validator(mode="after")
    def _no_arm_twice(self) -> ExperimentConfig:
        if len(self.arms) == 1:
            raise ValueError(f"arms has {self.arms[0]} alone; a comparison takes two or more, the control first")
        for name, values in (("arms", self.arms), ("seeds", self.seeds), ("sizes", self.sizes)):
            if len(set(values)) < len(values):
                raise ValueError(f"{name} names one twice: {', '.join(map(str, values))}")
        return self


class Config(_Section):
    """A whole run."""

    seed: Natural = Field(0, description="every random choice comes from it")
    threads: Natural = Field(0, description="CPU threads; 0: all cores")
    model: ModelConfig = ModelConfig()
    seeds: SeedsConfig = SeedsConfig()
    instructions: InstructionsConfig = InstructionsConfig()
    feedback: FeedbackConfig = FeedbackConfig()
    policy: PolicyConfig = PolicyConfig()
    instances: InstancesConfig = InstancesConfig()
    finetune: FinetuneConfig = FinetuneConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    experiment: ExperimentConfig = ExperimentConfig()

    def candidates(self, instructions: int) -> int:
        """Completions that a policy writes for each of so many instructions; under best_of_n the initial policy writes
        those too that training would have sampled."""
        extra = self.sampled_in_training(instructions) if self.policy.algorithm == "best_of_n" else 0
        return self.instances.candidates + extra

    def sampled_in_training(self, instructions: int) -> int:
        """The completions that training samples, shared out evenly among so many instructions and rounded up."""
        return -(-self.policy.iterations * self.policy.rollouts // instructions)

    @model_validator(mode="after")
    def _arms_can_be_made(self) -> Config:
        arms, algorithm = self.experiment.arms, self.policy.algorithm
        if "tuned" in arms and not self.policy.trains:
            raise ValueError(f"experiment.arms names tuned, but policy.algorithm is {algorithm}, which trains nothing")
        if arms and algorithm == "best_of_n":
            raise ValueError(
                "policy.algorithm best_of_n gives the initial policy more candidates, so that it is no control; "
                "set it to none and name best_of_n in experiment.arms"
            )
        largest, target = max(self.experiment.sizes, default=0), self.instructions.target
        if arms and largest > target:
            raise ValueError(f"experiment.sizes asks for {largest} instructions, but instructions.target is {target}")
        return self


def load_config(
    file: Path | None = None,
    *,
    preset: str | None = None,
    seeds: str | None = None,
    overrides: Sequence[str] = (),
) -> Config:
    """The config of a preset or a YAML file, with a seeds file and ``key=value`` overrides (``policy.iterations=4``).

    Neither file nor preset given: the embedded preset. Raises UsageError that names the key, its place, and the
    nearest known name.
    """
    if file is not None and preset is not None:
        raise UsageError("--config and --preset exclude each other: put `preset: NAME` into the file instead")
    values = _read_yaml(file) if file is not None else {"preset": preset or "embedded"}
    where = str(file) if file is not None else "the preset"
    base = values.pop("preset", None)
    if base is not None:
        values = _merged(_preset_values(str(base)), values)
    if seeds is not None:
        values = _merged(values, {"seeds": {"path": seeds}})
    for override in overrides:
        values = _merged(values, _parsed_override(override))
        where = f"{where} with --set" if "--set" not in where else where
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise UsageError(_explained(error, where)) from None


def _preset_values(name: str) -> dict[str, Any]:
    if name not in PRESETS:
        raise UsageError(f"no preset {name!r}{nearest_name(name, PRESETS)}; there are: {', '.join(PRESETS)}")
    text = resources.files("refine_af").joinpath("presets").joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    values: dict[str, Any] = yaml.safe_load(text) or {}
    return values


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"config {file} is not there; `refine-af config init` writes one to start from") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"config {file} is not UTF-8 (byte {error.start}): save it as UTF-8") from None
    except OSError as error:
        raise UsageError(f"config {file} can't be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        problem = " ".join(str(getattr(error, "problem", error)).split())
        raise UsageError(f"config {file}{line} is not YAML: {problem}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UsageError(f"config {file} must be a mapping of options, not a {type(values).__name__}")
    return values


def _parsed_override(text: str) -> dict[str, Any]:
    key, equals, raw = text.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"--set {text!r} must read key=value, for example policy.iterations=4")
    try:
        value: Any = yaml.safe_load(raw)
    except yaml.YAMLError:
        value = raw
    if _EXPONENT.fullmatch(raw.strip()):
        value = float(raw)  # YAML 1.1 reads 1e-4 as a string
    for part in reversed(key.strip().split(".")):
        value = {part: value}
    return dict(value)


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        result[key] = _merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result


def _explained(error: ValidationError, where: str) -> str:
    """The first mistake as one line: the key's full name, what was found, what may stand there."""
    first = error.errors()[0]
    key = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        parent, leaf = first["loc"][:-1], str(first["loc"][-1])
        known = _keys_at(parent)
        return f"unknown option {key!r} in {where}{nearest_name(leaf, known)}; known there: {', '.join(known)}"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    message = first["msg"].removeprefix("Value error, ")
    if not key:  # sections that don't go together
        return f"{where}: {message}"
    # Where the options of a section don't go together, the message says which.
    if first["type"] == "value_error" and isinstance(first["input"], dict):
        return f"option {key} in {where}: {message}{more}"
    return f"option {key} in {where}: {message}, found {first['input']!r}{more}"


def _keys_at(path: tuple[int | str, ...]) -> list[str]:
    section: Any = Config
    for part in path:
        # A mapping of sections, as feedback.scorers is, has keys of the user's own.
        mapping = get_origin(section) is dict
        section = get_args(section)[1] if mapping else section.model_fields[str(part)].annotation
    return list(section.model_fields)


def nearest_name(word: str, known: Sequence[str]) -> str:
    """``, did you mean 'x'?`` for the known name that is most like the word; nothing where none is."""
    match = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f", did you mean {match[0]!r}?" if match else ""


def as_yaml(config: Config) -> str:
    """The whole config as YAML that `--config` reads back."""
    text: str = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    return text


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Lines such as ``policy.iterations: 8 -> 4`` for everything in which two dumped configs differ."""
    lines: list[str] = []
    for key in [*old, *(k for k in new if k not in old)]:
        a, b, name = old.get(key), new.get(key), f"{prefix}{key}"
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            lines += differences(a, b, f"{name}.")
        elif a != b:
            lines.append(f"{name}: {a!r} -> {b!r}")
    return lines
