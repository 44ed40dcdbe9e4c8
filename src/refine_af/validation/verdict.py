"""What the gains of all arms say about a reward, in a sentence."""

from __future__ import annotations

from collections.abc import Mapping

from refine_af.validation.choices import BEST, SHORTEST, SHUFFLED
from refine_af.validation.gains import Gain

Gains = Mapping[str, Mapping[str, Gain]]  # over chance: by arm, by figure


def verdict(reward: str, found: Gains) -> str:
    """Whether choosing by the reward makes a better student than chance, beyond what style alone gains.

    Shuffled answers have to come out below chance in margin; where they don't, the questions can't tell. Content counts
    where it is above that of the shortest answers, which say no more and gain in it.
    """
    if found[SHUFFLED]["margin"].high >= 0:
        return (
            f"Nothing can be said of {reward}: these questions don't tell a student of shuffled answers from one of "
            f"real ones (margin {found[SHUFFLED]['margin']}). Ask more of them, or train more students."
        )
    content, margin = found[BEST]["content"], found[BEST]["margin"]
    knows_better = content.low > 0 and content.mean > found[SHORTEST]["content"].mean
    figures = f"margin {margin}, content {content} nats over chance"
    if margin.high < 0:
        return f"Choosing by {reward} makes a student that attends less to what is asked: {figures}. Don't train on it."
    if margin.low <= 0 and not knows_better:
        return f"Choosing by {reward} is not shown to make a better student than chance, beyond style: {figures}."
    learnt = ["attends better to what is asked"] if margin.low > 0 else []
    learnt += ["knows answers better"] if knows_better else []
    less = ", but knows answers worse" if content.high < 0 else ""
    return f"Choosing by {reward} makes a student that {' and '.join(learnt)}{less}: {figures}."
