"""Log-probabilities of tokens out of hidden states, without ever holding all logits.

Logits (N, V), with all that autograd keeps of them, would be the largest tensors of a training step. So states become
logits in slices, and a slice's gradient is taken while its logits are there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from refine_af.rl.head import Head

_LOGITS_AT_ONCE = 2**23  # 32 MiB


@dataclass(frozen=True, slots=True)
class TokenFigures:
    """Per token (N,), in nats. Only ``log_probs`` carry a gradient.

    ``entropy`` and ``plain`` (the log-probabilities at temperature 1, as engines give them) are empty unless asked for.
    """

    log_probs: Tensor
    entropy: Tensor
    plain: Tensor


def token_figures(
    states: Tensor, targets: Tensor, head: Head, temperature: float, *, watch: bool = False
) -> TokenFigures:
    """Of ``targets`` (N,) out of ``states`` (N, H), at the temperature; ``watch`` asks for entropy and plain ones.

    The head's weights must be frozen: no gradient reaches them.
    """
    return TokenFigures(*_TokenFigures.apply(states, targets, head, temperature, watch))


class _TokenFigures(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, states: Tensor, targets: Tensor, head: Head, temperature: float, watch: bool
    ) -> tuple[Tensor, ...]:
        wants_gradient = ctx.needs_input_grad[0]
        columns: list[tuple[Tensor, Tensor, Tensor]] = []
        slopes: list[Tensor] = []
        size = max(1, _LOGITS_AT_ONCE // head.vocabulary)
        for part, tokens in zip(states.split(size), targets.split(size), strict=True):
            part = part.detach().requires_grad_(wants_gradient)
            with torch.set_grad_enabled(wants_gradient):
                logits = head.logits(part).float() / temperature  # (n, V)
                normalizer = logits.logsumexp(-1)
                log_probs = logits.gather(-1, tokens[:, None]).squeeze(-1) - normalizer
                if wants_gradient:
                    # A token's log-probability depends on no state but its own: the sum's gradient is each one's.
                    slopes += torch.autograd.grad(log_probs.sum(), part)
            watched = _watched(logits.detach(), normalizer.detach(), tokens, temperature, watch)
            columns.append((log_probs.detach(), *watched))
        if wants_gradient:
            ctx.save_for_backward(torch.cat(slopes))
        made = tuple(torch.cat(column) for column in zip(*columns, strict=True))
        ctx.mark_non_differentiable(*made[1:])
        return made

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (slopes,) = ctx.saved_tensors  # (N, H)
        return gradients[0][:, None].to(slopes.dtype) * slopes, None, None, None, None


def _watched(
    logits: Tensor, normalizer: Tensor, tokens: Tensor, temperature: float, watch: bool
) -> tuple[Tensor, Tensor]:
    """Entropies, and log-probabilities at temperature 1, of logits that were divided by the temperature."""
    if not watch:
        return logits.new_empty(0), logits.new_empty(0)
    entropy = normalizer - (torch.softmax(logits, -1) * logits).sum(-1)
    plain = logits.mul_(temperature)
    return entropy, plain.gather(-1, tokens[:, None]).squeeze(-1) - plain.logsumexp(-1)
