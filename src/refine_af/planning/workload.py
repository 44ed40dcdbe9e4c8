"""How many tokens each stage would read, write and train on. Knows lengths and yields, nothing of machines."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from refine_af.config import Config
from refine_af.evaluation.likelihood import REFERENCES
from refine_af.evaluation.tasks import load_tasks
from refine_af.feedback.check import takes_gradients
from refine_af.feedback.influence.split import LONGEST, MOST
from refine_af.planning.lengths import (
    FRAME_TOKENS,
    LABEL_TOKENS,
    TOKENS_PER_WORD,
    Expectations,
    completions_needed,
    expectations,
    instruction_tokens,
    mean_words,
    micro_batch_tokens,
    pair_length,
    pair_prompt,
    turns,
)
from refine_af.planning.models import ModelFacts, reward_models, short_name
from refine_af.planning.work import Fixed, Generation, Pass, StageWork
from refine_af.validation.choices import NONSENSE, TRAININGS


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
        _arms(config, hope, held_out, seeds - held_out),
        StageWork("report", "write report.html from the database"),
    ]


def _instructions(config: Config, hope: Expectations) -> StageWork:
    options = config.instructions
    completions, rounds = completions_needed(config, hope)
    demonstration = mean_words(options.max_demonstration_words, pairs=False) * TOKENS_PER_WORD + 5
    limit = options.sampling.max_tokens
    opens = options.method == "openings"
    listed = min(float(limit), hope.tokens_per_item * (1 if opens else hope.items))
    continued = f", each continued {options.continuations} times," if opens else ""
    return StageWork(
        "instructions",
        f"{rounds} rounds of {options.prompts_per_round} prompts with "
        f"{options.demonstrations} demonstrations{continued} until {options.target:,} novel instructions are kept",
        (
            Fixed("prepare the model", "prepare"),
            Generation(
                "instructions",
                completions,
                FRAME_TOKENS + options.demonstrations * demonstration,
                False,
                listed,
                limit,
                min(config.model.batch_size, options.prompts_per_round),
                rounds,
            ),
        ),
    )


def _log_probabilities(config: Config, tokens: float) -> Sequence[Pass]:
    """What goes through without a gradient, for ``tokens`` in one pass over all rollouts."""
    whose = ["policy", "reference", *(["critic"] if config.policy.has_own_critic else [])]
    return [Pass(f"log-probabilities, {', '.join(whose)}", len(whose) * tokens, "forward")]


def _policy(config: Config, hope: Expectations, shown: int) -> StageWork:
    options, sampling = config.policy, config.instances.sampling
    if not options.trains:
        return StageWork(
            "policy", f"nothing: policy.algorithm is {options.algorithm}, the model stays as it is (a control)"
        )
    rollouts, new = options.iterations * options.rollouts, hope.pair_share * sampling.max_tokens
    each = turns(config, hope)
    learnt = each if options.action == "pair" else 1.0  # turns of a pair
    measured = max(1, min(options.held_out, config.instructions.target // 3))  # a third at most is kept out
    held_out = 2 * measured * options.held_out_samples
    batch = min(config.model.batch_size, options.rollouts)
    responses = 2 if options.algorithm == "mipo" else 1  # behind one prompt
    sizes = sorted(set(options.groups(options.rollouts)))
    groups = f" in groups of {' and '.join(map(str, sizes))}" if options.in_groups else ""
    micro = min(options.micro_batch, options.minibatch)
    trained = options.epochs * (2 if options.has_own_critic else 1)
    again = options.gradient_checkpointing

    def through(rows: int) -> float:
        return (
            options.iterations
            * math.ceil(responses * learnt * options.rollouts / rows)
            * micro_batch_tokens(config, new, rows)
        )

    return StageWork(
        "policy",
        f"{options.algorithm.upper()}: {options.iterations} iterations of {options.rollouts} rollouts{groups}, passes "
        f"over each: {options.epochs}; "
        f"{measured} held-out instructions scored before and after",
        (
            Generation(
                "rollouts",
                round(each * rollouts),
                pair_prompt(config),
                True,
                new,
                sampling.max_tokens,
                batch,
                options.iterations,
            ),
            Generation(
                "held-out samples",
                round(each * held_out),
                pair_prompt(config),
                True,
                new,
                sampling.max_tokens,
                config.model.batch_size,
                2,
            ),
            *_rewards(config, rollouts + held_out + 2 * measured, each * new, shown),  # answers behind other tasks, too
            *_log_probabilities(config, through(options.micro_batch)),
            Pass("updates", trained * through(micro), "train"),
            *([Pass("activations again", trained * through(micro), "forward")] if again else []),
            Fixed("hand the new weights to the engine", "refresh", options.iterations),
        ),
    )


def _instances(config: Config, hope: Expectations, shown: int) -> StageWork:
    options, target = config.instances, config.instructions.target
    policies = 2 if config.policy.trains else 1
    candidates, each = config.candidates(target), turns(config, hope)
    pairs, new = policies * target * candidates, hope.pair_share * options.sampling.max_tokens
    whose = "with the tuned policy and, as the control, with the initial one" if policies == 2 else "as it is"
    return StageWork(
        "instances",
        f"{candidates} candidates for each of {target:,} instructions, {whose}; "
        f"the best {options.per_instruction} selected by reward",
        (
            Generation(
                "pairs",
                round(each * pairs),
                pair_prompt(config),
                True,
                new,
                options.sampling.max_tokens,
                config.model.batch_size,
                policies,
            ),
            # The seeds that calibrate the reward are read when it is first used.
            *_rewards(config, pairs, each * new, shown if policies == 1 else 0),
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


def _arms(config: Config, hope: Expectations, held_out: int, shown: int) -> StageWork:
    options, target, sampling = config.experiment, config.instructions.target, config.instances.sampling
    if not options.arms:
        return StageWork("arms", "nothing: experiment.arms is empty")
    sizes = options.sizes or (target,)
    policies = len(options.policy_seeds)
    trainings = len(options.arms) * len(options.seeds) * policies
    pairs = trainings * sum(sizes) * config.instances.per_instruction
    answers, prompt = (1 + trainings * len(sizes)), min(options.max_source, _evaluation_prompt(config))
    asked = held_out if options.tasks is None else _tasks_read(options.tasks, options.instances)[0]
    extra = policies * target * config.sampled_in_training(target) if options.takes_best_of_n else 0
    again = (*_policy(config, hope, shown).pieces, *_instances(config, hope, shown).pieces) * (policies - 1)
    new, generations = hope.pair_share * sampling.max_tokens, []
    if extra:
        generations.append(
            Generation(
                "candidates of best_of_n", round(turns(config, hope) * extra), pair_prompt(config), True, new,
                sampling.max_tokens,
                config.model.batch_size,
            )
        )  # fmt: skip
    generations.append(
        Generation(
            "answers",
            answers * asked,
            prompt,
            False,
            hope.answer_share * options.max_target,
            options.max_target,
            config.model.batch_size,
            answers,
        )
    )
    return StageWork(
        "arms",
        f"{', '.join(options.names)}: {trainings * len(sizes)} trainings on up to {max(sizes):,} instructions; base "
        f"and tuned models answer {asked:,} instances each"
        + (f"; the policy is trained and writes {policies - 1} times more" if again else ""),
        (
            *again,
            *generations,
            *(_rewards(config, extra, turns(config, hope) * new, 0) if extra else ()),
            *_rewards_of_arms(config, extra, turns(config, hope) * new, shown),
            Pass("updates", config.finetune.epochs * pairs * pair_length(config, hope), "finetune"),
        ),
    )


def _rewards_of_arms(config: Config, extra: int, new: float, shown: int) -> list[Pass]:
    """What feedback of an arm's own takes; ``extra``: best-of-n's candidates beside the initial policy's."""
    target = config.instructions.target
    found: list[Pass] = []
    written = len(config.experiment.policy_seeds) * target * config.candidates(target)
    for name, other in config.feedbacks_of_arms().items():
        whose = {arm.policy for arm in config.experiment.arms if arm.feedback == name}
        pairs = written * len({one.replace("best_of_n", "initial") for one in whose}) + extra * ("best_of_n" in whose)
        found += _rewards(other, pairs, new, shown)
    return found


def validation(config: Config, seeds: int, facts: ModelFacts | None) -> StageWork:
    """`refine-af validate-feedback` on the run's candidates, which is no part of a run."""
    hope, held_out = expectations(facts), round(seeds * config.seeds.held_out)
    students = TRAININGS * (len(NONSENSE) + 3)  # the best, the worst and chance's
    tokens = config.finetune.epochs * config.instructions.target * pair_length(config, hope)
    pair = mean_words(10_000, pairs=True) * TOKENS_PER_WORD
    read = held_out * (LABEL_TOKENS + pair / 2 + REFERENCES * pair / 2)
    return StageWork(
        "validate-feedback",
        f"{students} students ({TRAININGS} trainings each of the best, the worst, chance and {len(NONSENSE)} kinds of "
        f"nonsense), each asked the {held_out} held-out tasks",
        (
            Pass("students", students * tokens, "finetune"),
            Pass("what they find of references", students * read, "forward"),
        ),
    )


def _evaluation_prompt(config: Config) -> float:
    """Tokens of a mean source: what the tasks hold, and the words around it."""
    options = config.experiment
    if options.tasks is None:
        return LABEL_TOKENS + mean_words(10_000, pairs=True) * TOKENS_PER_WORD / 2
    return LABEL_TOKENS + _tasks_read(options.tasks, options.instances)[1] * TOKENS_PER_WORD


@cache
def _tasks_read(path: str, instances: int | None) -> tuple[int, float]:
    """How many instances an experiment's tasks have, and their mean words with the definition; examples left out."""
    tasks = load_tasks(Path(os.path.expanduser(path)), instances).tasks
    words = [len(f"{task.definition} {one.input}".split()) for task in tasks for one in task.instances]
    return len(words), sum(words) / len(words)


def _rewards(config: Config, pairs: int, new: float, shown: int) -> Sequence[Pass]:
    """Passes that the reward takes. A function of the user's own counts nothing."""
    length = instruction_tokens() + new
    if takes_gradients(config.feedback):
        # What prompts begin with is read once. Of each anchor three gradients are taken.
        anchors = 3 * min(MOST, shown // 2) * mean_words(LONGEST, pairs=True) * TOKENS_PER_WORD
        return (
            Pass("rewards: gradients", pairs * length, "gradient"),
            *((Pass("gradients of the anchors, the first time", anchors, "gradient"),) if shown else ()),
        )
    return [
        Pass(f"rewards: {short_name(model.name)}", model.passes * pairs * length, "reward", model.active)
        for model in reward_models(config.feedback)
    ]
