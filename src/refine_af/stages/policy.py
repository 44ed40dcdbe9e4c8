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
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Any

from refine_af.engines.base import Engine
from refine_af.errors import UsageError
from refine_af.models import build_once
from refine_af.novelty import tokens
from refine_af.records import Instruction, StageCounts, derived_random, derived_seed
from refine_af.rl.guards import Alarm, alarm
from refine_af.stages.context import Context, generated_instructions
from refine_af.stages.held_out import STAGE, check, compare_held_out, rollout, score_held_out, scored
from refine_af.stages.pairs import PairWriter, WrittenPair, mean_shares

if TYPE_CHECKING:
    from refine_af.rl.actor_critic import Trajectory
    from refine_af.rl.ppo import PPO


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
    if not scored(context, "before"):
        score_held_out(context, writer, context.parts.initial_engine, held_out, "before")
    _train(context, writer, train, held_out)
    cursor = store.cursor(STAGE)
    adapter = _checkpoint(context, cursor["kept"] if cursor.get("stopped") else config.iterations)
    if not scored(context, "after"):
        with context.parts.adapted_engine(adapter) as engine:
            score_held_out(context, writer, engine, held_out, "after")
    build_once(context.folder / "policy", lambda to: _copy_adapter(adapter, to))
    difference = compare_held_out(context)
    sampled = int(store.scalar("SELECT COUNT(*) FROM rollouts"))
    store.finish_stage(STAGE, StageCounts(read=sampled, kept=sampled))
    stopped = (
        f", stopped at iteration {cursor['iterations']} by the guard of {cursor['stopped']}"
        if cursor.get("stopped")
        else ""
    )
    return (
        f"held-out reward {difference.mean:+.3f} (95 % interval {difference.low:+.3f} to {difference.high:+.3f}) "
        f"over {len(held_out)} instructions{stopped}"
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


def _train(context: Context, writer: PairWriter, train: Sequence[Instruction], held_out: Sequence[Instruction]) -> None:
    """Iterations until there are enough of them or a guard stops."""
    config, seed, cursor = context.config, context.config.seed, context.store.cursor(STAGE)
    done = int(cursor.get("iterations", 0))
    if done == config.policy.iterations or cursor.get("stopped"):
        return
    from refine_af.rl.actor_critic import ActorCritic
    from refine_af.rl.ppo import PPO
    from refine_af.rl.trackers import Trackers

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
        with Trackers(config, context.folder) as trackers:
            for iteration in range(done + 1, config.policy.iterations + 1):
                trackers.log(iteration, _iterate(context, writer, trainer, train, held_out, iteration))
                if context.store.cursor(STAGE)["stopped"]:
                    break
    finally:
        actor.release()


def _iterate(
    context: Context,
    writer: PairWriter,
    trainer: PPO,
    train: Sequence[Instruction],
    held_out: Sequence[Instruction],
    iteration: int,
) -> dict[str, float]:
    config, seed = context.config, context.config.seed
    chosen = _drawn(train, config.policy.rollouts, seed, iteration)
    # Rollouts are drawn from the whole distribution: the policy that is trained has no nucleus cut out of it.
    whole = {"top_p": 1.0, "top_k": 0, "repetition_penalty": 1.0}
    sampling = config.instances.sampling.model_copy(update=whole)
    checked: dict[str, float] = {}
    with _rollout_engine(context, iteration) as engine:
        if iteration > 1 and config.policy.held_out_every and (iteration - 1) % config.policy.held_out_every == 0:
            # Of the policy as the last iteration left it: that is the one in the engine.
            checked = check(context, writer, engine, held_out, iteration - 1)
        written = writer.write(engine, chosen, sampling, derived_seed(seed, STAGE, iteration), log_probs=True)
    # A response without a single token is an immediate end without its token: nothing to learn from.
    usable = [w for w in written if w.completion.token_ids]
    # A response that was cut is penalised and not masked: that it has no end is the policy's doing.
    penalty = config.policy.unended_penalty
    scores = [w.judgement.reward - (0.0 if w.completion.ended else penalty) for w in usable]
    figures = trainer.iterate(iteration, [_trajectory(context, writer, w) for w in usable], scores)
    figures |= rollout_figures(written)
    spoken = alarm(config.policy.guards, config.policy.kl_target, _curves(context, iteration, figures, checked))
    if spoken is not None and spoken.action == "smaller steps":
        trainer.step_scale /= 2
    folder = _checkpoint(context, iteration)
    shutil.rmtree(folder, ignore_errors=True)  # one whose rows were never committed
    build_once(folder, trainer.save)
    cursor = _next_cursor(context.store.cursor(STAGE), iteration, checked, spoken)
    with context.store.transaction():
        context.store.add_rollouts(rollout(w, "train", iteration, i) for i, w in enumerate(written))
        context.store.add_metrics(STAGE, iteration, figures)
        context.store.add_metrics(STAGE, iteration - 1, checked)
        context.store.save_cursor(STAGE, **cursor)
        if spoken is not None:
            context.warn(STAGE, _told(spoken, iteration, cursor["kept"]))
    _drop_checkpoints(context, keep={cursor["kept"], iteration - 1, iteration})
    shown = {"reward": f"{figures['reward_mean']:+.2f}", "KL": f"{figures['kl']:.2f}"}
    shown |= {"held out": f"{checked['check/gain']:+.2f}"} if checked else {}
    context.progress.update(iteration, shown | {"readable": f"{figures['parsed_share']:.0%}"})
    return figures | checked


def _curves(
    context: Context, iteration: int, figures: dict[str, float], checked: dict[str, float]
) -> dict[str, list[tuple[int, float]]]:
    """All figures so far, with those of this iteration, whose rows are not there yet."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for name in ("kl", "distinct_2"):
        curves[name] = [*context.store.metric(STAGE, name), (iteration, figures[name])]
    return curves | {name: [(iteration - 1, value)] for name, value in checked.items()}


def _next_cursor(
    cursor: dict[str, Any], iteration: int, checked: dict[str, float], spoken: Alarm | None
) -> dict[str, Any]:
    """``kept`` is the checkpoint to go back to where a guard stops: that with the highest held-out reward of those that
    no guard spoke about, or, before there is a check, the last of these. An iteration's figures are of the policy that
    wrote its rollouts, which is the checkpoint before."""
    kept, best = int(cursor.get("kept", 1)), cursor.get("best")
    if spoken is None and checked and (best is None or checked["check/reward"] > best):
        kept, best = iteration - 1, checked["check/reward"]
    elif spoken is None and best is None:
        kept = max(1, iteration - 1)
    stopped = spoken.guard if spoken is not None and spoken.action == "stop" else None
    return {"iterations": iteration, "kept": kept, "best": best, "stopped": stopped}


def _told(spoken: Alarm, iteration: int, kept: int) -> str:
    if spoken.action == "stop":
        return (
            f"stopped at iteration {iteration} by the guard of {spoken.guard}: {spoken.text}; iteration {kept} is kept"
        )
    return f"iteration {iteration}: {spoken.text}; the guard of {spoken.guard} halves the steps"


def _drop_checkpoints(context: Context, keep: set[int]) -> None:
    """The one before the last stays, in case the machine dies between the rename and the commit."""
    for folder in (context.folder / "checkpoints").glob("iteration-*"):
        if int(folder.name.removeprefix("iteration-")) not in keep:
            shutil.rmtree(folder, ignore_errors=True)


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
        figures[f"component/{name}"] = fmean(values)
        figures[f"component_std/{name}"] = pstdev(values)
    return figures | {f"share/{name}": share for name, share in mean_shares(written).items()}


def distinct_bigrams(texts: Sequence[str]) -> float:
    """Different word bigrams over all word bigrams of the texts, in [0, 1]. Li et al. 2016 (arXiv 1510.03055)."""
    bigrams = [pair for text in texts for words in [tokens(text)] for pair in zip(words, words[1:])]  # noqa: B905
    return len(set(bigrams)) / len(bigrams) if bigrams else 0.0


def _checkpoint(context: Context, iteration: int) -> Path:
    return context.folder / "checkpoints" / f"iteration-{iteration:05d}"


def _copy_adapter(source: Path, target: Path) -> None:
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy2(source / name, target / name)
