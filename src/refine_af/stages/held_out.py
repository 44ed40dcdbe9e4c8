"""Measures the policy on instructions that it is not trained on: before, after, and every few iterations between.

Beside the reward it asks a witness, a scorer that is no part of the reward, so that nothing pulls at it; and at the end
what the answers get behind other tasks than their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from refine_af.engines.base import Engine
from refine_af.evaluation.significance import Difference, paired_difference
from refine_af.feedback.base import Example, Feedback, Scorer, checked_scores
from refine_af.prompts.pairs import Pair
from refine_af.records import Instruction, Rollout, derived_seed
from refine_af.rl.guards import Alarm, hacking
from refine_af.stages.context import Context, calibration_examples
from refine_af.stages.fit import Fit, fit_of
from refine_af.stages.pairs import PairWriter, WrittenPair, distinct_bigrams, mean_shares

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
        figures = {f"held_out_{split}/{name}": share for name, share in shares.items()}
        figures[f"held_out_distinct_2_{split}"] = distinct_bigrams([w.output for w in written], context.config.reads)
        context.store.add_metrics(STAGE, 0, figures)


def rollout(written: WrittenPair, split: Split, iteration: int, place: int) -> Rollout:
    return Rollout(
        iteration, place, split, written.instruction.id, written.input, written.output,
        None if written.fault is None else written.fault[0], written.tokens, written.ended, written.judgement.reward,
        written.sound,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Witnessed:
    """What the witness finds of the initial policy and of a later one; more is better."""

    before: float
    after: float
    difference: Difference


@dataclass(frozen=True, slots=True)
class Change:
    """Of the policy against the initial one, over the held-out instructions.

    ``reward`` is that of sound pairs, over the instructions that have one both times, and None where there is no such
    instruction; the shares of completions that are sound pairs stand apart. ``fit`` is None where fewer than two have
    one, ``witnessed`` without a witness, or where it could read nothing.
    """

    reward: Difference | None
    sound_before: float
    sound_after: float
    fit: Fit | None
    witnessed: Witnessed | None

    @property
    def alarm(self) -> Alarm | None:
        return hacking(self.reward, self.witnessed.difference) if self.reward and self.witnessed else None


def compare_held_out(context: Context, feedback: Feedback) -> Change:
    """Instructions are the units of the intervals: an instruction's samples are averaged first. For the fit the first
    sound one of each has to do."""
    seed, store = context.config.seed, context.store
    before, after = (_means(context, split) for split in ("before", "after"))
    both = [id for id in before if id in after]
    reward = None
    if both:
        was, became = [before[id] for id in both], [after[id] for id in both]
        reward = paired_difference(was, became, seed=seed)
        store.add_metrics(STAGE, 0, _figures("held_out_", fmean(was), fmean(became), reward))
    start, end = (_sound_shares(context, split) for split in ("before", "after"))
    share = paired_difference(start, end, seed=seed)
    store.add_metrics(STAGE, 0, _figures("held_out_readable_", fmean(start), fmean(end), share))
    fit = fit_of(feedback, _paid(context, "before"), _paid(context, "after"), seed)
    if fit is not None:
        store.add_metrics(STAGE, 0, _figures("held_out_fit_", fit.before, fit.after, fit.difference))
    change = Change(reward, fmean(start), fmean(end), fit, _witnessed(context, _pairs(context, "after")))
    if found := change.witnessed:
        store.add_metrics(STAGE, 0, _figures("held_out_witness_", found.before, found.after, found.difference))
    return change


def _figures(prefix: str, before: float, after: float, difference: Difference) -> dict[str, float]:
    return {f"{prefix}before": before, f"{prefix}after": after, **_with_interval(f"{prefix}difference", difference)}


def _with_interval(name: str, difference: Difference) -> dict[str, float]:
    return {name: difference.mean, f"{name}_low": difference.low, f"{name}_high": difference.high}


def check(
    context: Context, writer: PairWriter, engine: Engine, held_out: Sequence[Instruction], iteration: int
) -> dict[str, float]:
    """The figures of a policy between start and end: one completion for each held-out instruction, against what the
    initial policy wrote for it. Sampled with other seeds than before and after, so that a policy that is kept for its
    luck here has none there."""
    seed = derived_seed(context.config.seed, STAGE, "check", iteration)
    written = writer.write(engine, held_out, context.config.instances.sampling, seed)
    start = _means(context, "before")
    rewards = {w.instruction.id: w.judgement.reward for w in written if w.sound}
    both = [i for i in rewards if i in start]
    figures = {"check/readable": len(rewards) / len(written)}
    if both:
        gain = paired_difference([start[i] for i in both], [rewards[i] for i in both], seed=context.config.seed)
        figures |= {"check/reward": fmean(rewards.values()), **_with_interval("check/gain", gain)}
    pairs = ((w.instruction, w.pair) for w in written if w.pair is not None and w.sound)
    if found := _witnessed(context, pairs):
        figures |= {"check/witness": found.after, **_with_interval("check/witness_gain", found.difference)}
    return figures


Pairs = Iterable[tuple[Instruction, Pair]]


def _witnessed(context: Context, pairs: Pairs) -> Witnessed | None:
    """Over the instructions that have sound pairs both times: only these have a reward to be compared with."""
    if context.config.policy.guards.witness is None:
        return None
    scorer = context.parts.witness(calibration_examples(context), context.store)
    was, became = (_witness_means(scorer, some) for some in (_pairs(context, "before"), pairs))
    both = [i for i in became if i in was]
    if not both:
        return None
    before, after = [was[i] for i in both], [became[i] for i in both]
    return Witnessed(fmean(before), fmean(after), paired_difference(before, after, seed=context.config.seed))


def _pairs(context: Context, split: Split) -> Pairs:
    return ((instruction, pair) for instruction, pair, _ in _judged(context, split))


def _paid(context: Context, split: Split) -> dict[str, tuple[Example, float]]:
    """Instruction to its first sound pair, with its reward."""
    found: dict[str, tuple[Example, float]] = {}
    for instruction, pair, reward in _judged(context, split):
        found.setdefault(instruction.id, (Example(instruction.text, pair.input, pair.output), reward))
    return found


def _judged(context: Context, split: Split) -> Iterator[tuple[Instruction, Pair, float]]:
    """The sound pairs of a split in the order in which they were written, with their rewards."""
    instructions = {i.id: i for i in context.store.instructions()}
    for row in context.store.query(
        "SELECT instruction_id, input, text, reward FROM rollouts WHERE split = ? AND sound ORDER BY position",
        split,
    ):
        yield instructions[row["instruction_id"]], Pair(row["input"], row["text"]), row["reward"]


def _witness_means(scorer: Scorer, pairs: Pairs) -> dict[str, float]:
    """Instruction to the mean of its pairs' values, where high is better."""
    examples = [(i.id, Example(i.text, pair.input, pair.output)) for i, pair in pairs]
    sign = -1.0 if scorer.better == "low" else 1.0
    values: dict[str, list[float]] = {}
    for (id, _), value in zip(examples, checked_scores(scorer, [e for _, e in examples]), strict=True):
        values.setdefault(id, []).append(sign * value)
    return {id: fmean(of_one) for id, of_one in values.items()}


def _means(context: Context, split: Split) -> dict[str, float]:
    """Instruction to the mean reward of its sound pairs, in the order of the ids."""
    rows = context.store.query(
        "SELECT instruction_id, AVG(reward) mean FROM rollouts WHERE split = ? AND sound GROUP BY 1 ORDER BY 1",
        split,
    )
    return {row["instruction_id"]: row["mean"] for row in rows}


def _sound_shares(context: Context, split: Split) -> list[float]:
    """Of each instruction's completions the share that are sound pairs, in the order of the ids."""
    rows = context.store.query(
        "SELECT AVG(sound) share FROM rollouts WHERE split = ? GROUP BY instruction_id ORDER BY instruction_id",
        split,
    )
    return [row["share"] for row in rows]
