"""Measures the policy on instructions that it is not trained on: before, after, and every few iterations between.

Beside the reward it asks a witness, a scorer that is no part of the reward, so that nothing pulls at it.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Literal

from refine_af.engines.base import Engine
from refine_af.evaluation.significance import Difference, paired_difference
from refine_af.feedback.base import Example, Scorer, checked_scores
from refine_af.filters import pair_fault
from refine_af.prompts.pairs import Unreadable, parse_pair
from refine_af.records import Instruction, Rollout, derived_seed
from refine_af.stages.context import Context, calibration_examples
from refine_af.stages.pairs import PairWriter, WrittenPair, mean_shares

STAGE = "policy"
Split = Literal["train", "before", "after"]


def scored(context: Context, split: Split) -> bool:
    return bool(context.store.scalar("SELECT COUNT(*) FROM rollouts WHERE split = ?", split))


def score_held_out(
    context: Context, writer: PairWriter, engine: Engine, held_out: Sequence[Instruction], split: Split
) -> None:
    """Pairs for the held-out instructions, sampled as the instances will be, with the same seed before and after."""
    samples = context.config.policy.held_out_samples
    asked = [i for i in held_out for _ in range(samples)]
    seed = derived_seed(context.config.seed, STAGE, "held out")
    written = writer.write(engine, asked, context.config.instances.sampling, seed)
    with context.store.transaction():
        context.store.add_rollouts(rollout(w, split, 0, i) for i, w in enumerate(written))
        # Where nothing could be read, no component added anything.
        shares = dict.fromkeys(context.store.calibrations(), 0.0) | mean_shares(written)
        context.store.add_metrics(STAGE, 0, {f"held_out_{split}/{name}": share for name, share in shares.items()})


def rollout(written: WrittenPair, split: Split, iteration: int, place: int) -> Rollout:
    completion = written.completion
    return Rollout(
        iteration, place, split, written.instruction.id, completion.text, len(completion.token_ids),
        completion.ended, written.judgement.reward,
    )  # fmt: skip


def compare_held_out(context: Context) -> Difference:
    """Instructions are the units of the interval: an instruction's samples are averaged first."""
    before, after = (list(_means(context, split).values()) for split in ("before", "after"))
    difference = paired_difference(before, after, seed=context.config.seed)
    context.store.add_metrics(
        STAGE,
        0,
        {
            "held_out_before": fmean(before),
            "held_out_after": fmean(after),
            "held_out_difference": difference.mean,
            "held_out_difference_low": difference.low,
            "held_out_difference_high": difference.high,
        },
    )
    return difference


def check(
    context: Context, writer: PairWriter, engine: Engine, held_out: Sequence[Instruction], iteration: int
) -> dict[str, float]:
    """The figures of a policy between start and end: one completion for each held-out instruction, against what the
    initial policy wrote for it. Sampled with other seeds than before and after, so that a policy that is kept for its
    luck here has none there."""
    seed = derived_seed(context.config.seed, STAGE, "check", iteration)
    written = writer.write(engine, held_out, context.config.instances.sampling, seed)
    start = _means(context, "before")
    rewards = {w.instruction.id: w.judgement.reward for w in written}
    gain = paired_difference([start[i] for i in rewards], list(rewards.values()), seed=context.config.seed)
    figures = {
        "check/reward": fmean(rewards.values()),
        "check/gain": gain.mean,
        "check/gain_low": gain.low,
        "check/gain_high": gain.high,
    }
    if context.config.policy.guards.witness is None:
        return figures
    return figures | _witness_figures(context, written)


def _witness_figures(context: Context, written: Sequence[WrittenPair]) -> dict[str, float]:
    """Over the instructions whose pairs could be read both times: what is no pair has no witness."""
    scorer = context.parts.witness(calibration_examples(context), context.store)
    texts = {i.id: i.text for i in context.store.instructions()}
    before = [
        (row["instruction_id"], row["text"], bool(row["ended"]))
        for row in context.store.query("SELECT instruction_id, text, ended FROM rollouts WHERE split = 'before'")
    ]
    now = [(w.instruction.id, w.completion.text, w.completion.ended) for w in written]
    was, became = (_witnessed(scorer, texts, rows) for rows in (before, now))
    both = [i for i in became if i in was]
    if not both:
        return {}
    gain = paired_difference([was[i] for i in both], [became[i] for i in both], seed=context.config.seed)
    return {
        "check/witness": fmean(became[i] for i in both),
        "check/witness_gain": gain.mean,
        "check/witness_gain_low": gain.low,
        "check/witness_gain_high": gain.high,
    }


def _witnessed(scorer: Scorer, texts: dict[str, str], rows: Sequence[tuple[str, str, bool]]) -> dict[str, float]:
    """Instruction to the mean of its readable pairs' values, where high is better."""
    examples: list[tuple[str, Example]] = []
    for id, text, ended in rows:
        pair = parse_pair(text, ended=ended)
        if not isinstance(pair, Unreadable) and pair_fault(pair) is None:
            examples.append((id, Example(texts[id], pair.input, pair.output)))
    sign = -1.0 if scorer.better == "low" else 1.0
    values: dict[str, list[float]] = {}
    for (id, _), value in zip(examples, checked_scores(scorer, [e for _, e in examples]), strict=True):
        values.setdefault(id, []).append(sign * value)
    return {id: fmean(of_one) for id, of_one in values.items()}


def _means(context: Context, split: Split) -> dict[str, float]:
    """Instruction to its mean reward, in the order of the ids."""
    rows = context.store.query(
        "SELECT instruction_id, AVG(reward) mean FROM rollouts WHERE split = ? GROUP BY 1 ORDER BY 1", split
    )
    return {row["instruction_id"]: row["mean"] for row in rows}
