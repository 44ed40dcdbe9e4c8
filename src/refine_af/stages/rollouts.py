"""An iteration's responses: to which instructions, by which engine, what they are worth, what is watched of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import fmean, pstdev
from typing import TYPE_CHECKING

from refine_af.engines.base import Engine
from refine_af.errors import RefineError
from refine_af.language import Language
from refine_af.prompts.pairs import INPUTS
from refine_af.records import Instruction, derived_random, derived_seed
from refine_af.stages.context import Context, generated_instructions
from refine_af.stages.held_out import STAGE, check
from refine_af.stages.pairs import PairWriter, WrittenPair, WrittenTurn, distinct_bigrams, mean_shares
from refine_af.stages.team_engine import in_team

if TYPE_CHECKING:
    from refine_af.rl.responses import Trajectory


def split_instructions(context: Context) -> tuple[list[Instruction], list[Instruction]]:
    """Instructions to train on and to measure on. The seeds that demonstrate instructions are trained on too; the
    held-out ones of this stage are generated instructions, a third of them at most."""
    generated = generated_instructions(context.store)
    count = max(1, min(context.config.policy.held_out, len(generated) // 3))
    shuffled = list(generated)
    derived_random(context.config.seed, STAGE, "held out").shuffle(shuffled)
    held_out = {i.id for i in shuffled[:count]}
    train = [i for i in generated if i.id not in held_out]
    longest, language = context.config.instructions.max_demonstration_words, context.config.reads
    by_people = context.store.instructions(origin="seed", status="kept")
    train += [i for i in by_people if language.count(i.text) <= longest]
    return train, [i for i in generated if i.id in held_out]


def sampled(
    context: Context,
    writer: PairWriter,
    chosen: Sequence[Instruction],
    held_out: Sequence[Instruction],
    iteration: int,
) -> tuple[list[WrittenPair], dict[str, float]]:
    """The iteration's responses, and, where one is due, the figures of a check on the held-out instructions.

    The check is of the policy as the last iteration left it: that is the one in the engine.
    """
    config, seed = context.config, context.config.seed
    # Rollouts are drawn from the whole distribution: the policy that is trained has no nucleus cut out of it.
    whole = {"top_p": 1.0, "top_k": 0, "repetition_penalty": 1.0}
    sampling = config.instances.sampling.model_copy(update=whole)
    checked: dict[str, float] = {}
    with _rollout_engine(context, iteration) as engine:
        if iteration > 1 and config.policy.held_out_every and (iteration - 1) % config.policy.held_out_every == 0:
            checked = check(context, writer, engine, held_out, iteration - 1)
        groups = config.policy.groups(len(chosen)) if config.policy.action == "answer" else ()
        drawn_by = derived_seed(seed, STAGE, iteration)
        written = writer.write(engine, chosen, sampling, drawn_by, log_probs=True, one_input=groups)
    return written, checked


@contextmanager
def _rollout_engine(context: Context, iteration: int) -> Iterator[Engine]:
    """The policy as the last iteration left it, in the engine that generates."""
    parts = context.parts
    if parts.engine_name == "transformers":
        yield in_team(parts.shared_engine(adapter=True), parts, context.team)
    elif iteration == 1:
        yield parts.initial_engine  # a fresh adapter changes nothing
    else:
        with parts.adapted_engine(checkpoint(context, iteration - 1)) as engine:
            yield engine


def drawn(train: Sequence[Instruction], count: int, seed: int, iteration: int) -> list[Instruction]:
    """Instructions for an iteration: none twice before all were drawn once."""
    deck: list[Instruction] = []
    first = (iteration - 1) * count
    for turn in range(first // len(train), (first + count - 1) // len(train) + 1):
        cards = list(train)
        derived_random(seed, STAGE, "deck", turn).shuffle(cards)
        deck += cards
    start = first % len(train)
    return deck[start : start + count]


def scores(context: Context, written: Sequence[WrittenPair]) -> list[float]:
    """What training pays for. What is no sound pair gets what the sound ones get in the mean, less a penalty: so form
    is taught by as much as is asked, however far the reward's floor, or a gate's cap, is from what sound pairs differ
    by."""
    sound = [w.judgement.reward for w in written if w.sound]
    if not sound:
        return [0.0] * len(written)
    unsound = fmean(sound) - context.config.policy.fault_penalty
    return [w.judgement.reward if w.sound else unsound for w in written]


def trajectories(context: Context, written: WrittenPair) -> list[Trajectory]:
    """One for each turn that is learnt: the prompts of a pair's turns differ, so they are no one text. All have the
    pair's score."""
    return [
        _trajectory(context, one, one.completion.token_ids, one.completion.log_probs)
        for one in _learnt(context, written)
    ]


def _learnt(context: Context, written: WrittenPair) -> list[WrittenTurn]:
    """The turns that are the policy's actions."""
    whole = context.config.policy.action == "pair"
    return [turn for turn in written.turns if whole or turn.turn not in INPUTS]


def contrasts(context: Context, written: Sequence[WrittenPair], iteration: int) -> list[tuple[Trajectory, Trajectory]]:
    """Of each turn of a sound pair what was written, and behind the same prompt what was written in the same turn for
    another instruction, drawn by the seed. Raises RefineError where no turn has such a counterpart."""
    turns = [
        (pair.instruction.id, turn)
        for pair in written
        if pair.sound
        for turn in _learnt(context, pair)
        if turn.completion.token_ids
    ]
    random = derived_random(context.config.seed, STAGE, "contrasts", iteration)
    found = []
    for id, turn in turns:
        others = [one for other, one in turns if other != id and one.turn == turn.turn]
        if others:
            preferred = _trajectory(context, turn, turn.completion.token_ids, None)
            found.append((preferred, replace(preferred, response_ids=random.choice(others).completion.token_ids)))
    if not found:
        raise RefineError(
            f"policy: mipo tells answers to one instruction from answers to another, and in iteration {iteration} "
            "fewer than two instructions got a sound pair; raise policy.rollouts"
        )
    return found


def _trajectory(
    context: Context, turn: WrittenTurn, response: tuple[int, ...], log_probs: tuple[float, ...] | None
) -> Trajectory:
    """A response behind the turn's prompt."""
    from refine_af.rl.responses import Trajectory

    prefix, prompt = (
        tuple(context.parts.tokenizer.encode(text, add_special_tokens=False)) for text in (turn.prefix, turn.prompt)
    )
    return Trajectory(prefix, prompt, response, log_probs)


def rollout_figures(written: Sequence[WrittenPair], language: Language) -> dict[str, float]:
    """What is watched beside the trainer's own figures: reward and its components, length, readability, diversity. The
    reward is that of sound pairs; of an iteration without one there is none."""
    sound = [w.judgement.reward for w in written if w.sound]
    figures = {"reward_mean": fmean(sound), "reward_std": pstdev(sound)} if sound else {}
    figures |= {
        "response_tokens": sum(w.tokens for w in written) / len(written),
        "ended_share": sum(w.ended for w in written) / len(written),
        "parsed_share": len(sound) / len(written),
        "distinct_2": distinct_bigrams([w.output for w in written], language),
    }
    for name in sorted({n for w in written for n in w.judgement.components}):
        values = [w.judgement.components[name] for w in written if name in w.judgement.components]
        figures[f"component/{name}"] = fmean(values)
        figures[f"component_std/{name}"] = pstdev(values)
    return figures | {f"share/{name}": share for name, share in mean_shares(written).items()}


def checkpoint(context: Context, iteration: int) -> Path:
    return context.folder / "checkpoints" / f"iteration-{iteration:05d}"
