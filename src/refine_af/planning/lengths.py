"""How long texts are and how many come of a prompt, as a plan expects: tokens of prompts and pairs, yields."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cache
from importlib import resources

from refine_af.config import Config
from refine_af.planning.models import ModelFacts

TOKENS_PER_WORD = 1.35  # English prose in a vocabulary of 32,000 to 50,000 pieces, punctuation included
FRAME_TOKENS = 30  # a prompt's header and the words around its parts
LABEL_TOKENS = 15  # "Instruction:", "Input:", "Output:" and the line breaks of one demonstration


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


def expectations(facts: ModelFacts | None) -> Expectations:
    """Those of the model's size class; of a large model where the size isn't known."""
    return SMALL if facts is not None and facts.small else LARGE


def completions_needed(config: Config, hope: Expectations) -> tuple[int, int]:
    """Completions and rounds until the target is reached, in whole rounds, no more than max_rounds."""
    options = config.instructions
    items = min(hope.items, max(1.0, options.sampling.max_tokens / hope.tokens_per_item))
    rounds = math.ceil(options.target / (items * hope.kept) / options.prompts_per_round)
    rounds = min(rounds, options.max_rounds)
    return rounds * options.prompts_per_round, rounds


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
    then every rollout's own instruction and response. TRL's trainers, and checkpointing, send every prompt whole.
    """
    if config.policy.in_groups or config.policy.gradient_checkpointing:
        return rows * (pair_prompt(config) + response)
    return 2 * pair_prefix(config) + rows * (instruction_tokens() + response)


def instruction_tokens() -> float:
    """A mean instruction, taken to be as long as the built-in ones."""
    return mean_words(10_000, pairs=False) * TOKENS_PER_WORD


def pair_length(config: Config, hope: Expectations) -> float:
    """Tokens of a pair in the fine-tuning data: template, instruction, input and output."""
    new = hope.pair_share * config.instances.sampling.max_tokens
    return min(float(config.finetune.max_length), LABEL_TOKENS + instruction_tokens() + new)


def longest_pair(config: Config) -> int:
    """Tokens of the longest row that fine-tuning can meet: the longest instruction and a full completion."""
    instruction = config.instructions.max_words * TOKENS_PER_WORD
    longest = FRAME_TOKENS + instruction + config.instances.sampling.max_tokens
    return min(config.finetune.max_length, math.ceil(longest))


@cache
def mean_words(longest: int, *, pairs: bool) -> float:
    """Mean length in words of the built-in seeds no longer than ``longest``: instructions, or whole pairs."""
    text = resources.files("refine_af.seeds").joinpath("seed_tasks.jsonl").read_text(encoding="utf-8")
    tasks = [json.loads(line) for line in text.splitlines() if line.strip()]
    fields = ("instruction", "input", "output") if pairs else ("instruction",)
    lengths = sorted(sum(len(task[field].split()) for field in fields) for task in tasks)
    short = [length for length in lengths if length <= longest] or lengths[:1]
    return sum(short) / len(short)
