"""How long texts are and how many come of a prompt, as a plan expects: tokens of prompts and pairs, yields."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cache
from importlib import resources

from refine_af.config import Config
from refine_af.planning.models import ModelFacts
from refine_af.stages.demonstrations import FEWEST_SETS

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
    opened: float  # share of openings of which one continuation is kept
    pair_share: float  # of max_tokens that a turn of a pair uses on average
    with_input: float  # share of the pairs that have an input, which is written in a turn of its own
    answer_share: float  # of max_tokens that an answer in the evaluation uses


# The small model's are those of a run of the embedded preset; those of a base model of 7B are a guess: longer lists,
# most of its pairs ended early.
SMALL = Expectations(
    items=2.7, kept=0.43, tokens_per_item=14, opened=0.62, pair_share=0.42, with_input=0.5, answer_share=0.8
)
LARGE = Expectations(
    items=4, kept=0.30, tokens_per_item=45, opened=0.5, pair_share=0.4, with_input=0.5, answer_share=0.8
)


def expectations(facts: ModelFacts | None) -> Expectations:
    """Those of the model's size class; of a large model where the size isn't known."""
    return SMALL if facts is not None and facts.small else LARGE


def completions_needed(config: Config, hope: Expectations) -> tuple[int, int]:
    """Completions and rounds until the target is reached, in whole rounds, no more than max_rounds."""
    options = config.instructions
    items = min(hope.items, max(1.0, options.sampling.max_tokens / hope.tokens_per_item))
    opens = options.method == "openings"
    kept = hope.opened if opens else items * hope.kept
    rounds = min(math.ceil(options.target / kept / options.prompts_per_round), options.max_rounds)
    return rounds * options.prompts_per_round * (options.continuations if opens else 1), rounds


def turns(config: Config, hope: Expectations) -> float:
    """Completions that make a pair: one more where an input is written first."""
    return 1 + {"never": 0.0, "always": 1.0, "auto": hope.with_input}[config.instances.inputs]


def pair_prefix(config: Config) -> float:
    """Tokens with which the prompts of a turn begin that show the same tasks: the header and the demonstrations."""
    options = config.instances
    demonstration = mean_words(options.max_demonstration_words, pairs=True) * TOKENS_PER_WORD + LABEL_TOKENS
    return FRAME_TOKENS + options.demonstrations * demonstration


def pair_prompt(config: Config) -> float:
    """Tokens of the prompt of a turn: the shared beginning and the instruction itself."""
    return pair_prefix(config) + instruction_tokens()


def micro_batch_tokens(config: Config, response: float, rows: int) -> float:
    """Tokens that a micro-batch of ``rows`` turns sends through the network.

    Shared beginnings go through once each. Rows are ordered by them, so that a micro-batch holds one, and as many
    more as begin in it: an iteration has 8 sets of demonstrations for inputs and 8 for answers. Then comes every turn's
    own instruction and response. Checkpointing sends every prompt whole.
    """
    if config.policy.gradient_checkpointing:
        return rows * (pair_prompt(config) + response)
    beginnings = min(rows, 1 + rows * 2 * FEWEST_SETS / config.policy.rollouts)
    return beginnings * pair_prefix(config) + rows * (instruction_tokens() + response)


def instruction_tokens() -> float:
    """A mean instruction, taken to be as long as the built-in ones."""
    return mean_words(10_000, pairs=False) * TOKENS_PER_WORD


def pair_length(config: Config, hope: Expectations) -> float:
    """Tokens of a pair in the fine-tuning data: template, instruction, input and output."""
    new = turns(config, hope) * hope.pair_share * config.instances.sampling.max_tokens
    return min(float(config.finetune.max_length), LABEL_TOKENS + instruction_tokens() + new)


def longest_pair(config: Config) -> int:
    """Tokens of the longest row that fine-tuning can meet: the longest instruction and a full completion."""
    instruction = config.instructions.max_words * TOKENS_PER_WORD
    longest = (
        FRAME_TOKENS
        + instruction
        + (1 if config.instances.inputs == "never" else 2) * (config.instances.sampling.max_tokens)
    )
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
