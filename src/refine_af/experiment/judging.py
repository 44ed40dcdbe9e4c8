"""What the feedback of an arm's own says of the pairs that the arm may choose from."""

from __future__ import annotations

from refine_af.experiment.data import pool_of
from refine_af.feedback.base import Example, Judgement
from refine_af.feedback.judging import judge_all
from refine_af.stages.context import Context, calibration_pairs, seed_tasks


def judge_arms(context: Context) -> dict[str, dict[str, Judgement]]:
    """By a feedback of an arm's own, what it says of each instance of the arms that have it, by the instance's id.

    Scores are kept in the run, so that the same command goes on.
    """
    store, found = context.store, {}
    texts = {one.id: one.text for one in store.instructions()}
    for name, config in context.config.feedbacks_of_arms().items():
        arms = [arm for arm in config.experiment.arms if arm.feedback == name]
        pool = list({one.id: one for arm in arms for one in pool_of(store, arm)}.values())
        reward = context.parts.with_config(config).feedback(calibration_pairs(seed_tasks(store, "kept"), config), store)
        pairs = [Example(texts[one.instruction_id], one.input, one.output) for one in pool]
        judgements = judge_all(reward, pairs, context.progress, f"arms: candidates by {name}")
        found[name] = {one.id: judged for one, judged in zip(pool, judgements, strict=True)}
    return found
