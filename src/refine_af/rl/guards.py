"""Looks over a policy's curves and says when training goes wrong: KL that runs away, diversity that is lost, or a
reward that rises while a witness that nobody optimises falls.

An alarm is a function of the figures so far and holds no state, so that a resumed run gives the same ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from refine_af.config import GuardsConfig

Curves = Mapping[str, Sequence[tuple[int, float]]]  # of a metric: (iteration, value), in order


@dataclass(frozen=True, slots=True)
class Alarm:
    """Which guard spoke, what is to be done, and the figures that decided."""

    guard: Literal["KL", "diversity", "reward hacking"]
    action: Literal["smaller steps", "stop"]
    text: str


def alarm(config: GuardsConfig, kl_target: float, curves: Curves) -> Alarm | None:
    """What the last iteration's figures call for; the gravest where several do. None where all is well."""
    found = [_hacking(curves), _diversity(config, curves), _kl(config, kl_target, curves)]
    spoken = [one for one in found if one is not None]
    return next((one for one in spoken if one.action == "stop"), spoken[0] if spoken else None)


def _kl(config: GuardsConfig, target: float, curves: Curves) -> Alarm | None:
    if config.kl_limit is None or "kl" not in curves:
        return None
    limit = config.kl_limit * target
    over = _over_at_the_end([kl > limit for _, kl in curves["kl"]])
    if not over:
        return None
    said = f"KL to the initial policy is {curves['kl'][-1][1]:.1f} nats a response, over {limit:.1f}"
    if over < config.patience:
        return Alarm("KL", "smaller steps", said)
    return Alarm("KL", "stop", f"{said}, for {over} iterations in a row")


def _diversity(config: GuardsConfig, curves: Curves) -> Alarm | None:
    values = [value for _, value in curves["distinct_2"]]
    limit = config.diversity * values[0]
    under = _over_at_the_end([value < limit for value in values])
    if under < config.patience:
        return None
    return Alarm(
        "diversity",
        "stop",
        f"distinct-2 is {values[-1]:.2f}, under {config.diversity:.0%} of the start's {values[0]:.2f}, for {under} "
        "iterations in a row",
    )


def _hacking(curves: Curves) -> Alarm | None:
    """Where both intervals say so: held-out reward above the start's, the witness below."""
    rise, fall = curves.get("check/gain_low"), curves.get("check/witness_gain_high")
    if not rise or not fall or rise[-1][0] != fall[-1][0] or rise[-1][0] != curves["distinct_2"][-1][0] - 1:
        return None
    if rise[-1][1] <= 0 or fall[-1][1] >= 0:
        return None
    return Alarm(
        "reward hacking",
        "stop",
        f"held-out reward rose by {curves['check/gain'][-1][1]:.2f} while the witness fell by "
        f"{-curves['check/witness_gain'][-1][1]:.3f}, both beyond their 95 % intervals",
    )


def _over_at_the_end(flags: Sequence[bool]) -> int:
    """How many of the last ones in a row are true."""
    return next((n for n, flag in enumerate(reversed(flags)) if not flag), len(flags))
