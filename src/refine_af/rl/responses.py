"""Log-probabilities of responses by a network in memory, with their gradient.

Only response positions are turned into logits, and what all prompts share is computed once for a batch, with its
gradient. Padding stands to the right, where under a causal mask nothing real can see it: rows begin at the same
position, so all have the position ids that they would have alone, and no mask is needed. (Left padding, which a
generator needs to have its next tokens in one column, needs both.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import DynamicCache
from transformers.modeling_layers import GradientCheckpointingLayer

from refine_af.batching import alike
from refine_af.errors import UsageError
from refine_af.rl.head import Head, decoder_of, possible_heads
from refine_af.rl.log_probs import TokenFigures, token_figures

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Again = Callable[[], AbstractContextManager[None]]
Beginnings = dict[tuple[int, ...], DynamicCache]  # what a network keeps of beginnings that it has read


@dataclass(frozen=True, slots=True)
class Trajectory:
    """A prompt, in its shared and its own part, and the response that the policy gave. The own part and the response
    are never empty. ``engine_log_probs``: of the response's tokens at temperature 1, by what sampled them."""

    prefix_ids: tuple[int, ...]
    prompt_ids: tuple[int, ...]
    response_ids: tuple[int, ...]
    engine_log_probs: tuple[float, ...] | None = None


# By which ways to log-probabilities are compared: behind a shared beginning, of different lengths.
_TRIAL = (Trajectory((1, 5, 7), (9, 8), (6, 2, 10, 3)), Trajectory((1, 5, 7), (4,), (10, 6)))


class ResponseReader:
    """Reads responses with ``network`` as it is at the time, adapters and all.

    With ``checkpointing`` a layer keeps nothing but its input for the backward pass, and computes the rest again
    (Chen et al. 2016, arXiv 1604.06174). A shared beginning would be computed again for each row's pass, so then
    each row has its own; as it has in a network whose state after a beginning can't be copied.

    ``role`` makes, while layers are computed, what makes the context in which they are computed again.

    Raises UsageError, whose text is ``refusal``, for a network whose own log-probabilities are not found in a trial.
    """

    def __init__(
        self,
        network: PreTrainedModel,
        *,
        temperature: float,
        refusal: str,
        checkpointing: bool = False,
        role: Callable[[], Again] | None = None,
    ) -> None:
        self._network = network
        self._temperature = temperature
        self._role = role or (lambda: nullcontext)
        self._checkpointed = [m for m in network.modules() if checkpointing and can_recompute(m)]
        self._head, self.shares = self._way(refusal)

    def _way(self, refusal: str) -> tuple[Head, bool]:
        """How states become logits, and whether beginnings are shared: the first way that gives, of a few tokens, the
        log-probabilities of the network's own forward pass."""
        for head in possible_heads(self._network):
            for shares in (False,) if self._checkpointed else (True, False):
                self._head, self.shares = head, shares
                if self._finds_its_log_probs():
                    return head, shares
        raise UsageError(refusal)

    @torch.no_grad()
    def _finds_its_log_probs(self) -> bool:
        try:
            found = self.figures(self.states(_TRIAL), _TRIAL).log_probs
        except (AttributeError, TypeError, ValueError, IndexError, NotImplementedError):
            return False  # its decoder is asked in another way, or keeps something else of a beginning
        expected = torch.cat([self._own_log_probs(one) for one in _TRIAL])
        allowed = 1e-2 if self._network.dtype == torch.float32 else 0.5
        return bool((found - expected).abs().max() <= allowed)

    def _own_log_probs(self, one: Trajectory) -> Tensor:
        """Of the response's tokens (n,), by the network's own forward pass over this row alone."""
        ids = torch.tensor([one.prefix_ids + one.prompt_ids + one.response_ids], device=self._network.device)
        count = len(one.response_ids)
        logits = self._network(input_ids=ids, use_cache=False).logits[0, -count - 1 : -1].float()
        return (logits / self._temperature).log_softmax(-1).gather(-1, ids[0, -count:, None]).squeeze(-1)

    def figures(self, states: Tensor, trajectories: Sequence[Trajectory], *, watch: bool = False) -> TokenFigures:
        """Of the responses' tokens out of the states (N, H) from which they are predicted."""
        targets = torch.tensor([t for one in trajectories for t in one.response_ids], device=states.device)
        return token_figures(states, targets, self._head, self._temperature, watch=watch)

    def states(self, trajectories: Sequence[Trajectory], known: Beginnings | None = None) -> Tensor:
        """(N, H): the states from which the responses' tokens are predicted, one response after another. What is kept
        of beginnings is looked for in ``known``, and put there."""
        trajectories = self.as_read(trajectories)
        by_place: dict[int, Tensor] = {}
        beginnings: Beginnings = {} if known is None else known
        order = sorted(range(len(trajectories)), key=lambda i: trajectories[i].prefix_ids)
        for prefix, members in groupby(order, key=lambda i: trajectories[i].prefix_ids):
            if prefix and prefix not in beginnings:
                beginnings[prefix] = self.beginning(prefix)
            group = list(members)
            lengths = [len(trajectories[i].prompt_ids) + len(trajectories[i].response_ids) for i in group]
            for batch in alike(lengths, len(group)):
                places = [group[k] for k in batch]
                states = self.batch_states([trajectories[i] for i in places], beginnings.get(prefix))
                sizes = [len(trajectories[i].response_ids) for i in places]
                by_place.update(zip(places, states.split(sizes), strict=True))
        return torch.cat([by_place[i] for i in range(len(trajectories))])

    def as_read(self, trajectories: Sequence[Trajectory]) -> list[Trajectory]:
        """With their beginnings as their own, where those can't be shared."""
        if self.shares:
            return list(trajectories)
        return [replace(t, prefix_ids=(), prompt_ids=t.prefix_ids + t.prompt_ids) for t in trajectories]

    def beginning(self, prefix: tuple[int, ...]) -> DynamicCache:
        """The keys and values of a beginning, computed once, with their gradient, for all rows that begin with it."""
        cache = DynamicCache(config=self._network.config)
        ids = torch.tensor([prefix], device=self._network.device)
        decoder_of(self._network)(input_ids=ids, past_key_values=cache, use_cache=True)
        return cache

    def batch_states(self, group: Sequence[Trajectory], shared: DynamicCache | None) -> Tensor:
        """(N, H) of rows that one pass reads, each behind the same beginning, or behind none."""
        rows = [t.prompt_ids + t.response_ids for t in group]
        longest, offset = max(map(len, rows)), len(group[0].prefix_ids)
        device = self._network.device
        ids = torch.tensor([r + (0,) * (longest - len(r)) for r in rows], device=device)  # (B, L)
        behind: dict[str, Any] = {"use_cache": False}
        if shared is not None:
            cache = DynamicCache(config=self._network.config)
            for index, layer in enumerate(shared.layers):
                wide = (len(group), -1, -1, -1)
                cache.update(layer.keys.expand(wide), layer.values.expand(wide), index)
            positions = torch.arange(offset, offset + longest, device=device)[None]
            behind = {"position_ids": positions, "past_key_values": cache, "use_cache": True}
        with self._layers_checkpointed():
            states = decoder_of(self._network)(input_ids=ids, **behind).last_hidden_state  # (B, L, H)
        predicts = torch.zeros(ids.shape, dtype=torch.bool, device=device)
        for row, one in enumerate(group):
            start = len(one.prompt_ids) - 1
            predicts[row, start : start + len(one.response_ids)] = True
        return states[predicts]

    @contextmanager
    def _layers_checkpointed(self) -> Iterator[None]:
        """Not by transformers' own switch, which asks for training mode, and in it some layers drop values out. What is
        computed again, in a backward pass that may come later, is computed in the role that the network is in now."""
        role = self._role()
        again = partial(
            checkpoint, use_reentrant=False, preserve_rng_state=False, context_fn=lambda: (nullcontext(), role())
        )
        try:
            for layer in self._checkpointed:
                layer.forward = partial(again, layer.forward)
            yield
        finally:
            for layer in self._checkpointed:
                del layer.forward


def can_recompute(module: torch.nn.Module) -> bool:
    """Whether a module is a layer that can keep its input alone."""
    return isinstance(module, GradientCheckpointingLayer)
