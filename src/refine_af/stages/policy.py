"""Tunes the policy on feedback: sample pairs, judge them, learn, again; with held-out instructions scored before and
after.

An iteration is a checkpoint folder and one transaction. The folder appears whole (by a rename) before the rows do, so
that whatever the rows say is done can be gone on from.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refine_af.errors import NotFiniteError, RefineError, UsageError
from refine_af.evaluation.significance import Difference
from refine_af.files import write_text
from refine_af.models import build_once
from refine_af.records import Instruction, StageCounts
from refine_af.rl.guards import Alarm, alarm
from refine_af.stages.context import Context
from refine_af.stages.held_out import STAGE, Change, compare_held_out, rollout, score_held_out, scored
from refine_af.stages.learning import Begin, Learn, learn, policy_trainer
from refine_af.stages.pairs import PairWriter, WrittenPair
from refine_af.stages.rollouts import (
    checkpoint,
    contrasts,
    drawn,
    rollout_figures,
    sampled,
    scores,
    split_instructions,
    trajectories,
)
from refine_af.stages.team_engine import Done, adapted_engine

if TYPE_CHECKING:
    from refine_af.rl.trackers import Trackers


def run_policy(context: Context) -> str:
    config, store = context.config.policy, context.store
    if not config.trains:
        store.finish_stage(STAGE, StageCounts())
        return f"left as it is (policy.algorithm: {config.algorithm})"
    if context.config.instances.sampling.temperature == 0:
        raise UsageError("instances.sampling.temperature is 0: a policy that never varies can't be tuned; raise it")
    train, held_out = split_instructions(context)
    writer = PairWriter(context, training=True)
    done = int(store.cursor(STAGE).get("iterations", 0))
    context.progress.begin(STAGE, config.iterations, "iterations", done)
    if not scored(context, "before"):
        with adapted_engine(context.parts, context.team, None) as engine:
            score_held_out(context, writer, engine, held_out, "before")
    _train(context, writer, train, held_out)
    change = _measured(context, writer, held_out)
    adapter, cursor = _result(context), store.cursor(STAGE)
    build_once(context.folder / "policy", lambda to: _copy_adapter(adapter, to))
    count = int(store.scalar("SELECT COUNT(*) FROM rollouts"))
    store.finish_stage(STAGE, StageCounts(read=count, kept=count))
    stopped = cursor.get("stopped")
    how = f", sound pairs {change.sound_before:.0%} before and {change.sound_after:.0%} after"
    how += f", stopped at iteration {cursor['iterations']} by the guard of {stopped}" if stopped else ""
    reward = "not to be compared, since no instruction has a sound pair both times"
    if change.reward is not None:
        reward = f"{_worded(change.reward, 2)} over {len(held_out)} instructions"
    return f"held-out reward {reward}{_beside(change)}{how}"


def _measured(context: Context, writer: PairWriter, held_out: Sequence[Instruction]) -> Change:
    """What became of the policy that training ended with. Where the guard of reward hacking speaks about it, the best
    one that was checked before takes its place, and is measured."""
    store = context.store
    while True:
        if not scored(context, "after"):
            with adapted_engine(context.parts, context.team, _result(context)) as engine:
                score_held_out(context, writer, engine, held_out, "after")
        change, cursor = compare_held_out(context, writer.feedback), store.cursor(STAGE)
        if change.alarm is None or cursor.get("stopped"):
            return change
        if cursor.get("best") is None:
            context.warn(STAGE, f"{change.alarm.text}; no earlier policy was checked, so the last is kept")
            return change
        with store.transaction():
            store.many("DELETE FROM rollouts WHERE split = ?", [("after",)])
            store.save_cursor(STAGE, **cursor | {"stopped": change.alarm.guard})
            context.warn(STAGE, _told(context, change.alarm, cursor["iterations"], cursor["kept"]))


def _result(context: Context) -> Path:
    """The checkpoint that training ended with, or that a guard went back to."""
    cursor = context.store.cursor(STAGE)
    return checkpoint(context, cursor["kept"] if cursor.get("stopped") else context.config.policy.iterations)


def _worded(difference: Difference, digits: int) -> str:
    mean, low, high = (f"{value:+.{digits}f}" for value in (difference.mean, difference.low, difference.high))
    return f"{mean} (95 % interval {low} to {high})"


def _beside(change: Change) -> str:
    fit = f", fit {_worded(change.fit.difference, 2)}" if change.fit else ""
    return fit + (f", witness {_worded(change.witnessed.difference, 3)}" if change.witnessed else "")


def _train(context: Context, writer: PairWriter, train: Sequence[Instruction], held_out: Sequence[Instruction]) -> None:
    """Iterations until there are enough of them or a guard stops."""
    cursor = context.store.cursor(STAGE)
    done = int(cursor.get("iterations", 0))
    if done == context.config.policy.iterations or cursor.get("stopped"):
        return
    from refine_af.rl.trackers import Trackers

    with Trackers(context.config, context.folder) as trackers:
        _iterate(context, writer, train, held_out, trackers, done)


def _iterate(
    context: Context,
    writer: PairWriter,
    train: Sequence[Instruction],
    held_out: Sequence[Instruction],
    trackers: Trackers,
    done: int,
) -> None:
    config, team = context.config.policy, context.team
    begin = Begin(checkpoint(context, done).resolve() if done else None, context.config.seed)
    team.tell(begin)
    if team.size > 1:
        context.progress.note(f"policy: {team.size} processes write and learn together")
    groups = config.groups(config.rollouts)  # rollouts of one instruction, side by side
    with policy_trainer(context.parts, team, begin.seed) as trainer:
        if begin.checkpoint is not None:
            trainer.load(begin.checkpoint)
        for iteration in range(done + 1, config.iterations + 1):
            chosen = drawn(train, len(groups), context.config.seed, iteration)
            asked = [one for one, size in zip(chosen, groups, strict=True) for _ in range(size)]
            written, checked = sampled(context, writer, asked, held_out, iteration)
            order = _order(context, written, iteration, trainer.step_scale)
            team.tell(order)
            try:
                learned = learn(trainer, order, context.parts, team)
            except NotFiniteError as error:
                raise _not_finite(context, order, error) from None
            done_now = _looked_at(context, iteration, written, learned, checked)
            if done_now.spoken is not None and done_now.spoken.action == "smaller steps":
                trainer.step_scale /= 2
            _commit(context, done_now, trainer.save, trackers)
            if done_now.stops:
                break
    team.tell(Done())


def _order(context: Context, written: Sequence[WrittenPair], iteration: int, step_scale: float) -> Learn:
    """What is learnt from pairs: what was written in each turn, with the score of its pair, or against what was written
    for another instruction. A response without a single token is an immediate end without its token: nothing to learn
    from. Raises RefineError where all are."""
    if context.config.policy.algorithm == "mipo":
        pairs = contrasts(context, written, iteration)
        responses = [one for pair in pairs for one in pair]
        return Learn(iteration, responses, [1.0, 0.0] * len(pairs), list(range(len(responses))), step_scale)
    turns = [
        (place, one) for place, pair in enumerate(written) for one in trajectories(context, pair) if one.response_ids
    ]
    if not turns:
        raise RefineError(
            f"policy: none of the {len(written)} rollouts of iteration {iteration} holds anything to learn from, since "
            "they are empty or have no input that could be read; lower policy.learning_rate or raise "
            "policy.kl_coefficient, in a new folder"
        )
    owners = [place for place, _ in turns]
    return Learn(iteration, [one for _, one in turns], scores(context, written), owners, step_scale)


@dataclass(frozen=True, slots=True)
class _Iteration:
    """What an iteration leaves: its responses, its figures, those of the check before it, and what a guard says."""

    number: int
    written: Sequence[WrittenPair]
    figures: dict[str, float]
    checked: dict[str, float]
    spoken: Alarm | None

    @property
    def stops(self) -> bool:
        return self.spoken is not None and self.spoken.action == "stop"


def _not_finite(context: Context, order: Learn, error: NotFiniteError) -> RefineError:
    """The minibatch of the step is kept, for whoever wants to know what was in it."""
    kept = context.folder / f"not-finite-{order.iteration:05d}.jsonl"
    tokenizer, rows = context.parts.tokenizer, []
    for place in error.places:
        one = order.trajectories[place]
        rows.append(
            {
                "prompt": tokenizer.decode([*one.prefix_ids, *one.prompt_ids]),
                "response": tokenizer.decode(one.response_ids),
                "score": order.scores[order.owners[place]],
            }
        )
    write_text(kept, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return RefineError(
        f"policy: {error} at iteration {order.iteration}; the step's {len(rows)} responses are kept in {kept}. Start a "
        "run in another folder with a lower policy.learning_rate, or with model.dtype=float32; nothing here is lost"
    )


def _looked_at(
    context: Context,
    iteration: int,
    written: Sequence[WrittenPair],
    learned: dict[str, float],
    checked: dict[str, float],
) -> _Iteration:
    figures = learned | rollout_figures(written, context.config.reads)
    watched = ("kl", "distinct_2", "parsed_share")
    new = {name: (iteration, figures[name]) for name in watched}
    new |= {name: (iteration - 1, value) for name, value in checked.items()}
    curves = {name: [*context.store.metric(STAGE, name), one] for name, one in new.items()}
    config = context.config.policy
    return _Iteration(iteration, written, figures, checked, alarm(config.guards, config.kl_target, curves))


def _commit(context: Context, done: _Iteration, save: Callable[[Path], None], trackers: Trackers) -> None:
    """The iteration's checkpoint, then its rows."""
    iteration, figures, store = done.number, done.figures, context.store
    folder = checkpoint(context, iteration)
    shutil.rmtree(folder, ignore_errors=True)  # one whose rows were never committed
    build_once(folder, save)
    cursor = _next_cursor(store.cursor(STAGE), iteration, done.checked, done.spoken)
    with store.transaction():
        store.add_rollouts(rollout(w, "train", iteration, i) for i, w in enumerate(done.written))
        store.add_metrics(STAGE, iteration, figures)
        store.add_metrics(STAGE, iteration - 1, done.checked)
        store.save_cursor(STAGE, **cursor)
        if done.spoken is not None:
            context.warn(STAGE, _told(context, done.spoken, iteration, cursor["kept"]))
    _drop_checkpoints(context, keep={cursor["kept"], iteration - 1, iteration})
    shown = {
        "reward": f"{figures['reward_mean']:+.2f}" if "reward_mean" in figures else "none",
        "KL": f"{figures['kl']:.2f}",
    }
    shown |= {"held out": f"{done.checked['check/gain']:+.2f}"} if "check/gain" in done.checked else {}
    context.progress.update(iteration, shown | {"sound": f"{figures['parsed_share']:.0%}"})
    trackers.log(iteration, figures | done.checked)


def _next_cursor(
    cursor: dict[str, Any], iteration: int, checked: dict[str, float], spoken: Alarm | None
) -> dict[str, Any]:
    """``kept`` is the checkpoint to go back to where a guard stops: that with the highest held-out reward of those that
    no guard spoke about, or, before there is a check, the last of these. An iteration's figures are of the policy that
    wrote its rollouts, which is the checkpoint before."""
    kept, best = int(cursor.get("kept", 1)), cursor.get("best")
    if spoken is None and "check/reward" in checked and (best is None or checked["check/reward"] > best):
        kept, best = iteration - 1, checked["check/reward"]
    elif spoken is None and best is None:
        kept = max(1, iteration - 1)
    stopped = spoken.guard if spoken is not None and spoken.action == "stop" else None
    return {"iterations": iteration, "kept": kept, "best": best, "stopped": stopped}


def _told(context: Context, spoken: Alarm, iteration: int, kept: int) -> str:
    if spoken.action == "stop":
        return (
            f"stopped at iteration {iteration} by the guard of {spoken.guard}: {spoken.text}; iteration {kept} is kept"
        )
    return f"iteration {iteration}: {spoken.text}; the policy's learning rate is halved"


def _drop_checkpoints(context: Context, keep: set[int]) -> None:
    """The one before the last stays, in case the machine dies between the rename and the commit."""
    for folder in (context.folder / "checkpoints").glob("iteration-*"):
        if int(folder.name.removeprefix("iteration-")) not in keep:
            shutil.rmtree(folder, ignore_errors=True)


def _copy_adapter(source: Path, target: Path) -> None:
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy2(source / name, target / name)
