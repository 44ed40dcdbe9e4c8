"""Looks over a policy's curves and says when training goes wrong: KL that runs away, diversity that is lost, responses
that can't be read, or a reward that rises while a witness that nobody optimises falls.

An alarm is a function of the figures so far and holds no state, so that a resumed run gives the same ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from refine_af.config import GuardsConfig
from refine_af.evaluation.significance import Difference

Curves = Mapping[str, Sequence[tuple[int, float]]]  # of a metric: (iteration, value), in order


@dataclass(frozen=True, slots=True)
class Alarm:
    """Which guard spoke, what is to be done, and the figures that decided."""

    guard: Literal["KL", "diversity", "readability", "reward hacking"]
    action: Literal["smaller steps", "stop"]
    text: str


def alarm(config: GuardsConfig, kl_target: float, curves: Curves) -> Alarm | None:
    """What the last iteration's figures call for; the gravest where several do. None where all is well."""
    found = [_hacking(curves), _diversity(config, curves), _readability(config, curves), _kl(config, kl_target, curves)]
    spoken = [one for one in found if one is not None]
    return next((one for one in spoken if one.action == "stop"), spoken[0] if spoken else None)


def _kl(config: GuardsConfig, target: float, curves: Curves) -> Alarm | None:
    if config.kl_limit is None or "kl" not in curves:
        return None
    limit = config.kl_limit * target
    over = _over_at_the_end([kl > limit for _, kl in curves["kl"]])
    if not over:
        return None
    kl = curves["kl"][-1][1]
    said = f"KL to the initial policy is {kl:.1f}, over {limit:.1f} (policy.guards.kl_limit * policy.kl_target)"
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


def _readability(config: GuardsConfig, curves: Curves) -> Alarm | None:
    silent = _over_at_the_end([share == 0 for _, share in curves["parsed_share"]])
    if silent < config.patience:
        return None
    return Alarm("readability", "stop", f"not one response could be read, for {silent} iterations in a row")


def _hacking(curves: Curves) -> Alarm | None:
    """Stops where two checks in a row say so: a check is one completion an instruction, and with few instructions both
    intervals lie beyond zero by chance now and then. The first makes steps smaller."""
    checks = [iteration for iteration, _ in curves.get("check/gain", ())]
    # What is checked is the policy that wrote the last iteration's rollouts, which is the checkpoint before.
    if not checks or checks[-1] != curves["distinct_2"][-1][0] - 1:
        return None
    found = _hacking_at(curves, checks[-1])
    if found is None:
        return None
    if len(checks) == 1 or _hacking_at(curves, checks[-2]) is None:
        return replace(found, action="smaller steps")
    return replace(found, text=f"{found.text}, at two checks in a row")


def _hacking_at(curves: Curves, iteration: int) -> Alarm | None:
    reward, witness = (_difference_at(curves, name, iteration) for name in ("check/gain", "check/witness_gain"))
    return None if reward is None or witness is None else hacking(reward, witness)


def _difference_at(curves: Curves, name: str, iteration: int) -> Difference | None:
    """None where it was not measured then: a witness needs pairs that can be read."""
    if name not in curves or iteration not in dict(curves[name]):
        return None
    return Difference(*(dict(curves[f"{name}{part}"])[iteration] for part in ("", "_low", "_high")))


def hacking(reward: Difference, witness: Difference) -> Alarm | None:
    """Where both intervals say so: held-out reward above the initial policy's, the witness below."""
    if reward.low <= 0 or witness.high >= 0:
        return None
    return Alarm(
        "reward hacking",
        "stop",
        f"held-out reward rose by {reward.mean:.2f} but the check scorer (policy.guards.witness) fell by "
        f"{-witness.mean:.3f}, both significant: maybe reward hacking",
    )


def _over_at_the_end(flags: Sequence[bool]) -> int:
    """How many of the last ones in a row are true."""
    return next((n for n, flag in enumerate(reversed(flags)) if not flag), len(flags))
