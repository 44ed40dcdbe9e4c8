"""The pairs by people whose likelihood a pair is to raise, and the directions in which it rises."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor

from refine_af.errors import RefineError
from refine_af.feedback.base import Example
from refine_af.feedback.influence.gradients import PairGradients
from refine_af.records import derived_random
from refine_af.rl.responses import Trajectory

Direction = Literal["plain", "content", "contrastive"]
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)

# Makes what a model reads of a pair: its prompt, and its output with the end token or without.
Read = Callable[[Example, bool], Trajectory]
_ALIKE = 5  # anchors of the nearest lengths, among which the other task is drawn


@dataclass(frozen=True, slots=True)
class Anchors:
    """``means`` (k, p): in each of :data:`DIRECTIONS`, of the anchors' gradients, each of length 1. ``values`` (n, k):
    what each anchor itself gets by the others."""

    means: Tensor
    values: Tensor


def directions_of(pairs: Sequence[Example], gradients: PairGradients, read: Read, seed: int) -> Anchors:
    """Anchors of ``pairs``, whose directions are those in which log-probabilities rise:

    - plain: that of y behind x, its end token with it;
    - content: that of y behind x, without the end token;
    - contrastive: the same less that of y behind another anchor's x′. What style alone would raise raises both.
    """
    rows = [read(one, True) for one in pairs]
    counts = [[len(one.response_ids) for one in some] for some in (rows, [read(one, False) for one in pairs])]
    whole, given = gradients.gradients_of_beginnings(rows, counts)
    trained = _unit(whole, pairs)
    asked = zip(pairs, other_tasks(pairs, seed), strict=True)
    apart = [read(Example(other.instruction, other.input, one.output), False) for one, other in asked]
    contrast = given - gradients.gradients(apart)
    units = torch.stack([trained, _unit(given, pairs), _unit(contrast, pairs)])  # (k, n, p)
    sums = units.sum(1)
    own = torch.einsum("knp,np->nk", units, trained)
    return Anchors(sums / len(pairs), (trained @ sums.T - own) / (len(pairs) - 1))


def other_tasks(pairs: Sequence[Example], seed: int) -> list[Example]:
    """For each pair another one, whose output is not the same: with an input where it has one, and a prompt and an
    output about as long."""
    random = derived_random(seed, "other tasks")
    found = []
    for one in pairs:
        rest = [other for other in pairs if other.output != one.output]
        alike = [other for other in rest if bool(other.input) == bool(one.input)] or rest
        random.shuffle(alike)
        found.append(random.choice(sorted(alike, key=partial(_difference, one))[:_ALIKE]))
    return found


def _difference(one: Example, other: Example) -> int:
    """In length, in characters."""
    return abs(len(one.prompt) - len(other.prompt)) + abs(len(one.output) - len(other.output))


def _unit(gradients: Tensor, pairs: Sequence[Example]) -> Tensor:
    lengths = gradients.norm(dim=1, keepdim=True)
    for one, length in zip(pairs, lengths[:, 0].tolist(), strict=True):
        if not 0 < length < math.inf:
            raise RefineError(
                f"the gradient of seed task {one.instruction[:60]!r} is {length:g}; change or remove it, or change "
                "feedback.name and policy.guards.witness"
            )
    return gradients / lengths
