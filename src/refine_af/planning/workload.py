"""How many tokens each stage would read, write and train on. Knows lengths and yields, nothing of machines."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

from refine_af.config import Config
from refine_af.planning.models import ModelFacts, reward_models, short_name

TOKENS_PER_WORD = 1.35  # English prose in a vocabulary of 32,000 to 50,000 pieces, punctuation included
FRAME_TOKENS = 30  # a prompt's header and the words around its parts
LABEL_TOKENS = 15  # "Instruction:", "Input:", "Output:" and the line breaks of one demonstration
CLASSIFICATION_PROMPT = 75  # the question whether a task is classification, with an example of each kind
TAUGHT_BY_A_SEED = 5  # pairs that the evaluator reads, the seed's own and spoilt ones
CALIBRATED_ON = 24  # seeds on which that question is calibrated


@dataclass(frozen=True, slots=True)
class Expectations:
    """What a model's completions are expected to be like. Assumptions: the pilot of a run shows its true
    yield."""

    items: float  # instructions in a completion, after the first filters
    kept: float  # share of them that is novel and long enough
    tokens_per_item: float  # of the list, so that a small max_tokens holds fewer items
    pair_share: float  # of max_tokens that a pair uses on average
    answer_share: float  # of max_tokens that an answer in the evaluation uses


# The small model's are those of a run of the embedded preset; those of a base model of 7B are a guess: longer lists,
# most of its pairs ended early.
SMALL = Expectations(items=2.7, kept=0.43, tokens_per_item=14, pair_share=0.48, answer_share=0.8)
LARGE = Expectations(items=4, kept=0.30, tokens_per_item=45, pair_share=0.4, answer_share=0.8)


@dataclass(frozen=True, slots=True)
class Generation:
    """Completions to sample. Lengths are tokens; ``calls`` are rounds that wait for one another."""

    name: str
    completions: int
    prompt: float
    shared: bool  # whether the prompts begin with the same demonstrations
    mean_new: float
    max_new: int
    batch: int
    calls: int = 1

    @property
    def batches(self) -> int:
        return self.calls * math.ceil(self.completions / self.calls / self.batch)


@dataclass(frozen=True, slots=True)
class Pass:
    """Tokens that go through a model without being generated.

    ``kind``: "score" in the engine, "forward" in torch, "reward" by a reward model in float32, "train" with the way
    back, "finetune" too, with activations that a GPU computes twice. ``parameters`` None: the config's own model.
    """

    name: str
    tokens: float
    kind: Literal["score", "forward", "reward", "train", "finetune"]
    parameters: int | None = None


@dataclass(frozen=True, slots=True)
class Fixed:
    """Work whose time doesn't depend on tokens: ``times`` repetitions of something a machine knows by name."""

    name: str
    kind: str
    times: int = 1


Work = Generation | Pass | Fixed


@dataclass(frozen=True, slots=True)
class StageWork:
    """A stage in words and its pieces of work."""

    name: str
    words: str
    pieces: tuple[Work, ...] = ()


def expectations(facts: ModelFacts | None) -> Expectations:
    """Those of the model's size class; of a large model where the size isn't known."""
    return SMALL if facts is not None and facts.small else LARGE


def workload(config: Config, seeds: int, facts: ModelFacts | None) -> list[StageWork]:
    """The stages in order, for ``seeds`` tasks written by people."""
    held_out = round(seeds * config.seeds.held_out)
    hope = expectations(facts)
    return [
        StageWork("seeds", f"read {seeds} tasks, keep {held_out} of them back for the evaluation"),
        _instructions(config, hope),
        _policy(config, hope, seeds - held_out),
        _instances(config, hope, seeds - held_out),
        _finetune(config, hope),
        _evaluate(config, hope, held_out),
        arms_work(config, hope, held_out),
        StageWork("report", "write report.html from the database"),
    ]


def completions_needed(config: Config, hope: Expectations) -> tuple[int, int]:
    """Completions and rounds until the target is reached, in whole rounds, no more than max_rounds."""
    options = config.instructions
    items = min(hope.items, max(1.0, options.sampling.max_tokens / hope.tokens_per_item))
    rounds = math.ceil(options.target / (items * hope.kept) / options.prompts_per_round)
    rounds = min(rounds, options.max_rounds)
    return rounds * options.prompts_per_round, rounds


def _instructions(config: Config, hope: Expectations) -> StageWork:
    options = config.instructions
    completions, rounds = completions_needed(config, hope)
    demonstration = mean_words(options.max_demonstration_words, pairs=False) * TOKENS_PER_WORD + 5
    limit = options.sampling.max_tokens
    listed = min(float(limit), hope.tokens_per_item * hope.items)
    return StageWork(
        "instructions",
        f"{rounds} rounds of {options.prompts_per_round} prompts with "
        f"{options.demonstrations} demonstrations until {options.target:,} novel instructions are kept",
        (
            Fixed("prepare the model", "prepare"),
            Generation(
                "lists of instructions",
                completions,
                FRAME_TOKENS + options.demonstrations * demonstration,
                False,
                listed,
                limit,
                min(config.model.batch_size, options.prompts_per_round),
                rounds,
            ),
            # By the likelihoods of Yes and No: each prompt is read twice.
            Pass("is it classification?", 2 * (options.target + CALIBRATED_ON) * CLASSIFICATION_PROMPT, "score"),
        ),
    )


def pair_prefix(config: Config) -> float:
    """Tokens with which all prompts for a pair begin: the header and the demonstrations."""
    options = config.instances
    demonstration = mean_words(options.max_demonstration_words, pairs=True) * TOKENS_PER_WORD + LABEL_TOKENS
    return FRAME_TOKENS + options.demonstrations * demonstration


def pair_prompt(config: Config) -> float:
    """Tokens of the prompt that asks for a pair: the shared beginning and the instruction itself."""
    return pair_prefix(config) + instruction_tokens()


def micro_batch_tokens(config: Config, response: float, rows: int) -> float:
    """Tokens that a micro-batch of ``rows`` rollouts sends through the network.

    PPO's shared beginning goes through once for each of its two kinds of prompts (classification or not),
    then every rollout's own instruction and response. TRL's trainers send every prompt whole.
    """
    if config.policy.in_groups:
        return rows * (pair_prompt(config) + response)
    return 2 * pair_prefix(config) + rows * (instruction_tokens() + response)


def _log_probabilities(config: Config, tokens: float) -> Sequence[Pass]:
    """What goes through without a gradient, for ``tokens`` in one pass over all rollouts."""
    options = config.policy
    # TRL leaves out what isn't needed: GRPO's own pass where there is one step, the reference where it has no weight.
    policy = options.algorithm != "grpo" or options.epochs * options.rollouts > options.minibatch
    reference = options.algorithm == "ppo" or options.kl_coefficient > 0
    whose = [name for name, needed in (("policy", policy), ("reference", reference)) if needed]
    return [Pass(f"log-probabilities, {' and '.join(whose)}", len(whose) * tokens, "forward")] if whose else []


def instruction_tokens() -> float:
    """A mean instruction, taken to be as long as the built-in ones."""
    return mean_words(10_000, pairs=False) * TOKENS_PER_WORD


def _policy(config: Config, hope: Expectations, shown: int) -> StageWork:
    options, sampling = config.policy, config.instances.sampling
    if not options.trains:
        return StageWork(
            "policy", f"nothing: policy.algorithm is {options.algorithm}, the model stays as it is (a control)"
        )
    rollouts, new = options.iterations * options.rollouts, hope.pair_share * sampling.max_tokens
    measured = max(1, min(options.held_out, config.instructions.target // 3))  # a third at most is kept out
    held_out = 2 * measured * options.held_out_samples
    batch = min(config.model.batch_size, options.rollouts)
    groups = f" in groups of {options.group_size}" if options.in_groups else ""
    micro = min(options.micro_batch, options.minibatch)

    def through(rows: int) -> float:
        return options.iterations * math.ceil(options.rollouts / rows) * micro_batch_tokens(config, new, rows)

    return StageWork(
        "policy",
        f"{options.algorithm.upper()}: {options.iterations} iterations of {options.rollouts} rollouts{groups}, passes "
        f"over each: {options.epochs}; "
        f"{measured} held-out instructions scored before and after",
        (
            Generation(
                "rollouts",
                rollouts,
                pair_prompt(config),
                True,
                new,
                sampling.max_tokens,
                batch,
                options.iterations,
            ),
            Generation(
                "held-out samples",
                held_out,
                pair_prompt(config),
                True,
                new,
                sampling.max_tokens,
                config.model.batch_size,
                2,
            ),
            *_rewards(config, rollouts + held_out, new, shown),
            *_log_probabilities(config, through(micro if options.in_groups else options.micro_batch)),
            Pass("updates", options.epochs * through(micro), "train"),
            Fixed("hand the new weights to the engine", "refresh", options.iterations),
        ),
    )


def _instances(config: Config, hope: Expectations, shown: int) -> StageWork:
    options, target = config.instances, config.instructions.target
    policies = 2 if config.policy.trains else 1
    candidates = config.candidates(target)
    completions, new = policies * target * candidates, hope.pair_share * options.sampling.max_tokens
    whose = "with the tuned policy and, as the control, with the initial one" if policies == 2 else "as it is"
    return StageWork(
        "instances",
        f"{candidates} candidates for each of {target:,} instructions, {whose}; "
        f"the best {options.per_instruction} selected by reward",
        (
            Generation(
                "pairs",
                completions,
                pair_prompt(config),
                True,
                new,
                options.sampling.max_tokens,
                config.model.batch_size,
                policies,
            ),
            # The seeds that calibrate the reward are read when it is first used.
            *_rewards(config, completions, new, shown if policies == 1 else 0),
        ),
    )


def _finetune(config: Config, hope: Expectations) -> StageWork:
    options = config.finetune
    pairs = config.instructions.target * config.instances.per_instruction
    steps = options.epochs * math.ceil(pairs / options.batch_size)
    tokens = options.epochs * pairs * pair_length(config, hope)
    return StageWork(
        "finetune",
        f"LoRA on {pairs:,} pairs at most, {options.epochs} epochs, {steps} optimiser steps",
        (Pass("updates", tokens, "finetune"),),
    )


def pair_length(config: Config, hope: Expectations) -> float:
    """Tokens of a pair in the fine-tuning data: template, instruction, input and output."""
    new = hope.pair_share * config.instances.sampling.max_tokens
    return min(float(config.finetune.max_length), LABEL_TOKENS + instruction_tokens() + new)


def longest_pair(config: Config) -> int:
    """Tokens of the longest row that fine-tuning can meet: the longest instruction and a full completion."""
    instruction = config.instructions.max_words * TOKENS_PER_WORD
    longest = FRAME_TOKENS + instruction + config.instances.sampling.max_tokens
    return min(config.finetune.max_length, math.ceil(longest))


def _evaluate(config: Config, hope: Expectations, held_out: int) -> StageWork:
    limit = config.evaluation.max_tokens
    prompt = LABEL_TOKENS + mean_words(10_000, pairs=True) * TOKENS_PER_WORD / 2
    return StageWork(
        "evaluate",
        f"base and tuned model answer the {held_out} held-out tasks, greedily",
        (
            Generation(
                "answers",
                2 * held_out,
                prompt,
                False,
                hope.answer_share * limit,
                limit,
                config.model.batch_size,
                2,
            ),
        ),
    )


def _rewards(config: Config, pairs: int, new: float, shown: int) -> Sequence[Pass]:
    """Passes that the reward takes. A function of the user's own counts nothing."""
    if config.feedback.name == "embedded":
        # Each pair is read with its task and without one; so are the seeds, on which the scores are
        # calibrated.
        written = pairs * (2 * (FRAME_TOKENS + new) + instruction_tokens())
        calibrated = min(shown, config.feedback.calibrated_on)
        by_people = calibrated * (2 * FRAME_TOKENS + 1.5 * mean_words(80, pairs=True) * TOKENS_PER_WORD)
        taught = shown * TAUGHT_BY_A_SEED * 1.5 * mean_words(80, pairs=True) * TOKENS_PER_WORD
        return (
            Pass("rewards: with and without the task, seeds too", written + by_people, "score"),
            *((Pass("the evaluator's training, the first time", taught, "score"),) if shown else ()),
        )
    length = instruction_tokens() + new
    return [
        Pass(f"rewards: {short_name(model.name)}", model.passes * pairs * length, "reward", model.active)
        for model in reward_models(config.feedback)
    ]


@cache
def mean_words(longest: int, *, pairs: bool) -> float:
    """Mean length in words of the built-in seeds no longer than ``longest``: instructions, or whole pairs."""
    text = resources.files("refine_af.seeds").joinpath("seed_tasks.jsonl").read_text(encoding="utf-8")
    tasks = [json.loads(line) for line in text.splitlines() if line.strip()]
    fields = ("instruction", "input", "output") if pairs else ("instruction",)
    lengths = sorted(sum(len(task[field].split()) for field in fields) for task in tasks)
    short = [length for length in lengths if length <= longest] or lengths[:1]
    return sum(short) / len(short)
