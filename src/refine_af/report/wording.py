"""The report's words: printable texts, signed numbers, dates, and the sentences that conclude.

A sentence says what an interval allows and no more: where it contains zero, no difference is claimed.
"""

from __future__ import annotations

import math
import re
from datetime import datetime, timezone

from refine_af.report.data import Both, Interval
from refine_af.report.numbers import number, signed

_LONGEST_TEXT = 1500
# Controls, overrides of the writing direction, and code points that no page may carry.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")


def clean(text: str) -> str:
    """A model's text made printable: controls become visible, and what goes on for pages is cut."""
    shown = _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)
    if len(shown) <= _LONGEST_TEXT:
        return shown
    return f"{shown[:_LONGEST_TEXT]} … ({len(shown) - _LONGEST_TEXT:,} more characters)"


def between(interval: Interval) -> str:
    """The interval in words, its ends with the decimals that its width deserves; "" where there is none."""
    if interval.low is None or interval.high is None:
        return ""
    return f"95 % interval {_as_wide(interval, interval.low)} to {_as_wide(interval, interval.high)}"


def difference(interval: Interval) -> str:
    """The mean difference, with the decimals of its interval."""
    if interval.difference is None:
        return number(None)
    return _as_wide(interval, interval.difference)


def _as_wide(interval: Interval, value: float) -> str:
    half = ((interval.high or 0.0) - (interval.low or 0.0)) / 2
    if not (math.isfinite(value) and 1e-9 < half < 1e9):
        return signed(value)
    places = max(0, 2 - math.floor(math.log10(half)))
    return f"{value:+,.{places}f}".replace("-", "−")


def reward_conclusion(interval: Interval, count: int) -> str:
    """What the held-out reward allows to say."""
    if interval.verdict is None or interval.difference is None:
        return "There is no interval yet, so nothing can be concluded."
    seen = f"On {count} pairs of held-out completions the" if count else "The"
    if interval.verdict == 0:
        return (
            f"{seen} interval contains zero: no difference in reward is shown. "
            "More held-out instructions or more training may show one."
        )
    way = "higher" if interval.verdict > 0 else "lower"
    return (
        f"{seen} reward is {way} after training by {number(abs(interval.difference))}, and the interval "
        "excludes zero. This is the reward that was trained on: it does not show that a reader would find "
        f"the pairs {'better' if interval.verdict > 0 else 'worse'}."
    )


def readable_note(shares: Both, rewards: Both) -> str:
    """How many completions are sound pairs, which the reward is that of; "" where nothing is known. Runs of earlier
    versions have both in one reward, and beside it ``rewards``, those of sound pairs."""
    before, after = shares
    if before is None or after is None:
        return ""
    note = f"Of the completions {before:.0%} were sound pairs before and {after:.0%} after"
    if rewards[0] is None or rewards[1] is None:
        return f"{note}; the reward is that of sound pairs."
    return (
        f"{note}; the others count with the floor. Sound pairs got {number(rewards[0])} and {number(rewards[1])} "
        "in the mean."
    )


def fit_conclusion(interval: Interval) -> str:
    """Whether the reward was gained by answers that fit their tasks; "" where that was not measured."""
    if interval.verdict is None or interval.difference is None:
        return ""
    way = {
        1: "so answers fit their own tasks better",
        0: "so it is not shown that answers fit their own tasks better; what the reward gained may be style",
        -1: "so answers fit their own tasks less well",
    }[interval.verdict]
    return (
        f"Behind its own task an answer got {number(interval.before)} more than behind another one before training and "
        f"{number(interval.after)} more after it, a paired difference of {difference(interval)} ({between(interval)}), "
        f"{way}."
    )


def witness_conclusion(interval: Interval) -> str:
    """What a scorer that is no part of the reward says of the same completions; "" where there is none."""
    if interval.verdict is None or interval.difference is None:
        return ""
    way = {1: "rose", 0: "shows no difference", -1: "fell"}[interval.verdict]
    return (
        f"The witness, a scorer that nothing was trained on, {way}: {number(interval.before)} before and "
        f"{number(interval.after)} after over sound pairs, a paired difference of "
        f"{difference(interval)} ({between(interval)})."
    )


def evaluation_conclusion(interval: Interval, count: int) -> str:
    """What ROUGE-L on the held-out tasks allows to say."""
    if interval.verdict is None or interval.difference is None:
        return "One of the two models has not answered yet, so nothing can be concluded."
    if interval.verdict == 0:
        return (
            f"On {count} held-out tasks the interval contains zero: no difference between the base and "
            "the tuned model is shown."
        )
    way, verb = ("higher", "helped") if interval.verdict > 0 else ("lower", "hurt")
    return (
        f"On {count} held-out tasks the tuned model's ROUGE-L is {way}, and the interval excludes zero: "
        f"fine-tuning on these pairs {verb} on tasks like these. It does not show that the reinforcement "
        "learning made the difference: that needs the same run without it."
    )


def references_conclusion(content: Interval, margin: Interval) -> str:
    """What the likelihood of people's answers allows to say; "" where it was not measured."""
    if content.verdict is None or margin.verdict is None:
        return ""
    ways = {1: "likelier", 0: "not shown to be likelier", -1: "less likely"}
    apart = {1: "better", 0: "no better, as far as is shown,", -1: "worse"}
    return (
        f"To the tuned model people's answers are {ways[content.verdict]} ({difference(content)} nats a token, "
        f"{between(content)}), and it tells an answer from those to other tasks of its kind {apart[margin.verdict]} "
        f"than the base ({difference(margin)} nats, {between(margin)}). This sees more than ROUGE-L does on few tasks, "
        "and does not say that the model answers well."
    )


def clean_lines(text: str) -> str:
    """A long text of the program's own: printable, never cut."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def moment(at: float | None) -> str:
    if at is None:
        return "not started"
    return datetime.fromtimestamp(at, tz=timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def minutes(seconds: float) -> str:
    return f"{seconds / 60:,.1f}"


def interval_note(interval: Interval) -> str:
    ending = " · no difference shown" if interval.verdict == 0 else ""
    return f"{between(interval)}{ending}"


def worded(reason: str) -> str:
    return clean(reason).replace("_", " ")
