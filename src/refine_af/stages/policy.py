"""Tunes the policy on feedback: sample pairs, judge them, learn, again; with held-out instructions scored before and
after.

An iteration is a checkpoint folder and one transaction. The folder appears whole (by a rename) before the rows do, so
that whatever the rows say is done can be gone on from.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from refine_af.engines.base import Engine
from refine_af.errors import UsageError
from refine_af.evaluation.significance import Difference, paired_difference
from refine_af.models import build_once
from refine_af.novelty import tokens
from refine_af.records import Instruction, Rollout, StageCounts, derived_random, derived_seed
from refine_af.stages.context import Context, generated_instructions
from refine_af.stages.pairs import PairWriter, WrittenPair

if TYPE_CHECKING:
    from refine_af.rl.actor_critic import Trajectory
    from refine_af.rl.ppo import PPO

STAGE = "policy"


def run_policy(context: Context) -> str:
    config, store = context.config.policy, context.store
    if config.algorithm == "none":
        store.finish_stage(STAGE, StageCounts())
        return "left as it is (policy.algorithm: none)"
    if context.config.instances.sampling.temperature == 0:
        raise UsageError("instances.sampling.temperature is 0: a policy that never varies can't be tuned; raise it")
    train, held_out = split_instructions(context)
    writer = PairWriter(context)
    done = int(store.cursor(STAGE).get("iterations", 0))
    context.progress.begin(STAGE, config.iterations, "iterations", done)
    if not _scored(context, "before"):
        _score_held_out(context, writer, context.parts.initial_engine, held_out, "before")
    if done < config.iterations:
        _train(context, writer, train, done)
    adapter = _checkpoint(context, config.iterations)
    if not _scored(context, "after"):
        with context.parts.adapted_engine(adapter) as engine:
            _score_held_out(context, writer, engine, held_out, "after")
    build_once(context.folder / "policy", lambda to: _copy_adapter(adapter, to))
    difference = _compare_held_out(context)
    sampled = int(store.scalar("SELECT COUNT(*) FROM rollouts"))
    store.finish_stage(STAGE, StageCounts(read=sampled, kept=sampled))
    return (
        f"held-out reward {difference.mean:+.3f} (95 % interval {difference.low:+.3f} to {difference.high:+.3f}) "
        f"over {len(held_out)} instructions"
    )


def split_instructions(context: Context) -> tuple[list[Instruction], list[Instruction]]:
    """Instructions to train on and to measure on. The seeds that demonstrate instructions are trained on too; the
    held-out ones of this stage are generated instructions, a third of them at most."""
    generated = generated_instructions(context.store)
    count = max(1, min(context.config.policy.held_out, len(generated) // 3))
    shuffled = list(generated)
    derived_random(context.config.seed, STAGE, "held out").shuffle(shuffled)
    held_out = {i.id for i in shuffled[:count]}
    train = [i for i in generated if i.id not in held_out]
    longest = context.config.instructions.max_demonstration_words
    train += [i for i in context.store.instructions(origin="seed", status="kept") if len(i.text.split()) <= longest]
    return train, [i for i in generated if i.id in held_out]


def _train(context: Context, writer: PairWriter, train: Sequence[Instruction], done: int) -> None:
    from refine_af.rl.actor_critic import ActorCritic
    from refine_af.rl.ppo import PPO

    config, seed = context.config, context.config.seed
    actor = ActorCritic(
        context.parts.network,
        config.policy.lora,
        temperature=config.instances.sampling.temperature,
        label=context.parts.located.label,
        seed=derived_seed(seed, STAGE, "adapter"),
    )
    trainer = PPO(actor, config.policy, seed)
    try:
        if done:
            trainer.load(_checkpoint(context, done))
        for iteration in range(done + 1, config.policy.iterations + 1):
            _iterate(context, writer, trainer, train, iteration)
    finally:
        actor.release()


def _iterate(context: Context, writer: PairWriter, trainer: PPO, train: Sequence[Instruction], iteration: int) -> None:
    config, seed, store = context.config, context.config.seed, context.store
    chosen = _drawn(train, config.policy.rollouts, seed, iteration)
    # Rollouts are drawn from the whole distribution: the policy that is trained has no nucleus cut out of it.
    whole = {"top_p": 1.0, "top_k": 0, "repetition_penalty": 1.0}
    sampling = config.instances.sampling.model_copy(update=whole)
    with _rollout_engine(context, iteration) as engine:
        written = writer.write(engine, chosen, sampling, derived_seed(seed, STAGE, iteration), log_probs=True)
    # A response without a single token is an immediate end without its token: nothing to learn from.
    usable = [w for w in written if w.completion.token_ids]
    penalty = config.policy.unended_penalty
    scores = [w.judgement.reward - (0.0 if w.completion.ended else penalty) for w in usable]
    figures = trainer.iterate(iteration, [_trajectory(context, writer, w) for w in usable], scores)
    figures |= rollout_figures(written)
    folder = _checkpoint(context, iteration)
    shutil.rmtree(folder, ignore_errors=True)  # one whose rows were never committed
    build_once(folder, trainer.save)
    with store.transaction():
        store.add_rollouts(_rollout(w, "train", iteration, i) for i, w in enumerate(written))
        store.add_metrics(STAGE, iteration, figures)
        store.save_cursor(STAGE, iterations=iteration)
    # The one before stays, in case the machine dies between the rename and the commit.
    shutil.rmtree(_checkpoint(context, iteration - 2), ignore_errors=True)
    context.progress.update(
        iteration,
        {
            "reward": f"{figures['reward_mean']:+.2f}",
            "KL": f"{figures['kl']:.2f}",
            "readable": f"{figures['parsed_share']:.0%}",
        },
    )


@contextmanager
def _rollout_engine(context: Context, iteration: int) -> Iterator[Engine]:
    """The policy as the last iteration left it, in the engine that generates."""
    parts = context.parts
    if parts.engine_name == "transformers":
        yield parts.shared_engine(adapter=True)
    elif iteration == 1:
        yield parts.initial_engine  # a fresh adapter changes nothing
    else:
        with parts.adapted_engine(_checkpoint(context, iteration - 1)) as engine:
            yield engine


def _drawn(train: Sequence[Instruction], count: int, seed: int, iteration: int) -> list[Instruction]:
    """Instructions for an iteration: none twice before all were drawn once."""
    deck: list[Instruction] = []
    first = (iteration - 1) * count
    for turn in range(first // len(train), (first + count - 1) // len(train) + 1):
        cards = list(train)
        derived_random(seed, STAGE, "deck", turn).shuffle(cards)
        deck += cards
    start = first % len(train)
    return deck[start : start + count]


def _trajectory(context: Context, writer: PairWriter, written: WrittenPair) -> Trajectory:
    from refine_af.rl.actor_critic import Trajectory

    def encoded(text: str) -> tuple[int, ...]:
        return tuple(context.parts.tokenizer.encode(text, add_special_tokens=False))

    frame = writer.frame(written.instruction)
    own = encoded(written.instruction.text + frame.after)
    return Trajectory(encoded(frame.before), own, written.completion.token_ids, written.completion.log_probs)


def rollout_figures(written: Sequence[WrittenPair]) -> dict[str, float]:
    """What is watched beside PPO's own figures: reward and its components, length, readability, diversity."""
    rewards = [w.judgement.reward for w in written]
    mean = sum(rewards) / len(rewards)
    figures = {
        "reward_mean": mean,
        "reward_std": (sum((r - mean) ** 2 for r in rewards) / len(rewards)) ** 0.5,
        "response_tokens": sum(len(w.completion.token_ids) for w in written) / len(written),
        "ended_share": sum(w.completion.ended for w in written) / len(written),
        "parsed_share": sum(w.pair is not None for w in written) / len(written),
        "distinct_2": distinct_bigrams([w.completion.text for w in written]),
    }
    for name in sorted({n for w in written for n in w.judgement.components}):
        values = [w.judgement.components[name] for w in written if name in w.judgement.components]
        figures[f"component/{name}"] = sum(values) / len(values)
    return figures | {f"share/{name}": share for name, share in mean_shares(written).items()}


def mean_shares(written: Sequence[WrittenPair]) -> dict[str, float]:
    """What each component adds to the mean reward, over all completions: one that is no pair has the floor, and nothing
    of the components in it."""
    names = sorted({n for w in written for n in w.judgement.shares})
    return {name: sum(w.judgement.shares.get(name, 0.0) for w in written) / len(written) for name in names}


def distinct_bigrams(texts: Sequence[str]) -> float:
    """Different word bigrams over all word bigrams of the texts, in [0, 1]. Li et al. 2016 (arXiv 1510.03055)."""
    bigrams = [pair for text in texts for words in [tokens(text)] for pair in zip(words, words[1:])]  # noqa: B905
    return len(set(bigrams)) / len(bigrams) if bigrams else 0.0


def _checkpoint(context: Context, iteration: int) -> Path:
    return context.folder / "checkpoints" / f"iteration-{iteration:05d}"


def _copy_adapter(source: Path, target: Path) -> None:
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy2(source / name, target / name)


def _scored(context: Context, split: str) -> bool:
    return bool(context.store.scalar("SELECT COUNT(*) FROM rollouts WHERE split = ?", split))


def _score_held_out(
    context: Context,
    writer: PairWriter,
    engine: Engine,
    held_out: Sequence[Instruction],
    split: Literal["before", "after"],
) -> None:
    """Pairs for the held-out instructions, sampled as the instances will be, with the same seed before and after."""
    samples = context.config.policy.held_out_samples
    asked = [i for i in held_out for _ in range(samples)]
    seed = derived_seed(context.config.seed, STAGE, "held out")
    written = writer.write(engine, asked, context.config.instances.sampling, seed)
    with context.store.transaction():
        context.store.add_rollouts(_rollout(w, split, 0, i) for i, w in enumerate(written))
        shares = {f"held_out_{split}/{name}": share for name, share in mean_shares(written).items()}
        context.store.add_metrics(STAGE, 0, shares)


def _rollout(written: WrittenPair, split: Literal["train", "before", "after"], iteration: int, place: int) -> Rollout:
    completion = written.completion
    return Rollout(
        iteration, place, split, written.instruction.id, completion.text, len(completion.token_ids),
        completion.ended, written.judgement.reward,
    )  # fmt: skip


def _compare_held_out(context: Context) -> Difference:
    """Instructions are the units of the interval: an instruction's samples are averaged first."""
    means: dict[str, list[float]] = {}
    for split in ("before", "after"):
        rows = context.store.query(
            "SELECT AVG(reward) mean FROM rollouts WHERE split = ? GROUP BY instruction_id ORDER BY instruction_id",
            split,
        )
        means[split] = [row["mean"] for row in rows]
    difference = paired_difference(means["before"], means["after"], seed=context.config.seed)
    context.store.add_metrics(
        STAGE,
        0,
        {
            "held_out_before": sum(means["before"]) / len(means["before"]),
            "held_out_after": sum(means["after"]) / len(means["after"]),
            "held_out_difference": difference.mean,
            "held_out_difference_low": difference.low,
            "held_out_difference_high": difference.high,
        },
    )
    return difference
