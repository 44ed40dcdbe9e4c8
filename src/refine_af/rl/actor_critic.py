"""One network in three roles: policy (adapter on), reference (adapter off), critic (a head on the policy's states, or
on those of an adapter of its own).

Only response positions are turned into logits, and what all prompts share is computed once for a batch, with its
gradient. Padding stands to the right, where under a causal mask nothing real can see it: rows begin at the same
position, so all have the position ids that they would have alone, and no mask is needed. (Left padding, which a
generator needs to have its next tokens in one column, needs both.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import get_peft_model, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import DynamicCache
from transformers.modeling_layers import GradientCheckpointingLayer

from refine_af.batching import alike
from refine_af.config import LoraSettings
from refine_af.errors import UsageError
from refine_af.lora import adaptable_layers, lora_config, save_adapter
from refine_af.models import check_targets
from refine_af.rl.head import Head, decoder_of, possible_heads
from refine_af.rl.log_probs import token_figures

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_POLICY, _CRITIC = "default", "critic"  # adapters; a folder of peft's that names none holds the default


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


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Per response token, all (N,) with the responses one after another; the last two empty unless asked for."""

    log_probs: Tensor  # at the policy's temperature
    values: Tensor
    entropy: Tensor
    plain_log_probs: Tensor  # at temperature 1


class ActorCritic(nn.Module):
    """Puts a LoRA adapter on ``network`` (in place; :meth:`release` takes it off) and a value head on its states.

    With ``checkpointing`` a layer keeps nothing but its input for the backward pass, and computes the rest again
    (Chen et al. 2016, arXiv 1604.06174). A shared beginning would be computed again for each row's pass, so then
    each row has its own; as it has in a network whose state after a beginning can't be copied. Raises UsageError for a
    network that can't be checkpointed, and for one whose own log-probabilities are not found in a trial. With
    ``own_critic`` the critic's states are those of a second adapter.
    """

    def __init__(
        self,
        network: PreTrainedModel,
        lora: LoraSettings,
        *,
        temperature: float,
        label: str,
        seed: int,
        checkpointing: bool = False,
        own_critic: bool = False,
    ) -> None:
        super().__init__()
        self.temperature = temperature
        check_targets("policy.lora", lora.targets, adaptable_layers(network), label)
        self._checkpointed = [
            m for m in network.modules() if checkpointing and isinstance(m, GradientCheckpointingLayer)
        ]
        if checkpointing and not self._checkpointed:
            raise UsageError(f"policy.gradient_checkpointing: no layer of {label} can do so; set it to false")
        torch.manual_seed(seed)  # the adapter's first weights
        self._is_reference = False
        self._reference_prefixes: dict[tuple[int, ...], DynamicCache] = {}
        self.policy = get_peft_model(network, lora_config(lora))
        self.policy.peft_config[_POLICY].base_model_name_or_path = label
        self._adapter = self._parameters_of(_POLICY)
        self._critic_adapter: dict[str, nn.Parameter] = {}
        if own_critic:
            self.policy.add_adapter(_CRITIC, lora_config(lora))
            self._critic_adapter = self._parameters_of(_CRITIC)
            self._let_learn()
        self.value_head = nn.Linear(network.config.get_text_config().hidden_size, 1, device=network.device)
        nn.init.zeros_(self.value_head.weight)
        nn.init.zeros_(self.value_head.bias)
        self._head, self._shares = self._way(label)

    def _way(self, label: str) -> tuple[Head, bool]:
        """How states become logits, and whether beginnings are shared: the first way that gives, of a few tokens, the
        log-probabilities of the network's own forward pass."""
        for head in possible_heads(self._base):
            for shares in (False,) if self._checkpointed else (True, False):
                self._head, self._shares = head, shares
                if self._finds_its_log_probs():
                    return head, shares
        raise UsageError(
            f"policy.algorithm=ppo can't train {label}: the log-probabilities that it finds are not those of a "
            f"{type(self._base).__name__}; take another model, or policy.algorithm=grpo"
        )

    @torch.no_grad()
    def _finds_its_log_probs(self) -> bool:
        try:
            found = self.evaluate(_TRIAL).log_probs
        except (AttributeError, TypeError, ValueError, IndexError, NotImplementedError):
            return False  # its decoder is asked in another way, or keeps something else of a beginning
        expected = torch.cat([self._own_log_probs(one) for one in _TRIAL])
        allowed = 1e-2 if self._base.dtype == torch.float32 else 0.5
        return bool((found - expected).abs().max() <= allowed)

    def _own_log_probs(self, one: Trajectory) -> Tensor:
        """Of the response's tokens (n,), by the network's own forward pass over this row alone."""
        ids = torch.tensor([one.prefix_ids + one.prompt_ids + one.response_ids], device=self.device)
        count = len(one.response_ids)
        logits = self._base(input_ids=ids, use_cache=False).logits[0, -count - 1 : -1].float()
        return (logits / self.temperature).log_softmax(-1).gather(-1, ids[0, -count:, None]).squeeze(-1)

    @property
    def device(self) -> torch.device:
        return self.value_head.weight.device

    def adapter_parameters(self) -> list[nn.Parameter]:
        """The policy's."""
        return list(self._adapter.values())

    def critic_adapter(self) -> dict[str, nn.Parameter]:
        """By name; empty where the critic has none of its own."""
        return self._critic_adapter

    def _parameters_of(self, name: str) -> dict[str, nn.Parameter]:
        return {n: p for n, p in self.policy.named_parameters() if "lora_" in n and f".{name}." in n}

    def _let_learn(self) -> None:
        """peft freezes the adapter that isn't active, and a backward pass that comes later would leave it out."""
        for parameter in (*self._adapter.values(), *self._critic_adapter.values()):
            parameter.requires_grad_(True)

    @contextmanager
    def _as_critic(self) -> Iterator[None]:
        self.policy.set_adapter(_CRITIC)
        try:
            yield
        finally:
            self.policy.set_adapter(_POLICY)
            self._let_learn()

    @contextmanager
    def reference(self) -> Iterator[None]:
        """While it lasts, the network is the initial policy, which never changes, nor do its prefixes' states."""
        with self.policy.disable_adapter():
            self._is_reference = True
            try:
                yield
            finally:
                self._is_reference = False
        if self._critic_adapter:
            self._let_learn()

    def release(self) -> None:
        """Takes the adapter off the network, which is then as it was."""
        self.policy.unload()

    def save_adapter(self, folder: Path) -> None:
        save_adapter(self.policy, folder)

    def load_adapter(self, folder: Path) -> None:
        set_peft_model_state_dict(self.policy, load_file(folder / "adapter_model.safetensors"))

    def evaluate(self, trajectories: Sequence[Trajectory], *, watch: bool = False) -> Evaluation:
        """Log-probabilities and values of the responses' tokens; ``watch`` asks for what is only looked at, too."""
        if not self._shares:
            trajectories = [replace(t, prefix_ids=(), prompt_ids=t.prefix_ids + t.prompt_ids) for t in trajectories]
        states = self._all_states(trajectories)  # (N, H)
        targets = torch.tensor([t for one in trajectories for t in one.response_ids], device=states.device)
        found = token_figures(states, targets, self._head, self.temperature, watch=watch)
        # A critic without an adapter reads the policy's states and leaves them alone: its loss moves no adapter.
        read = states.detach()
        if self._critic_adapter and not self._is_reference:
            with self._as_critic():
                read = self._all_states(trajectories)
        values = self.value_head(read.float()).squeeze(-1)
        return Evaluation(found.log_probs, values, found.entropy, found.plain)

    def _all_states(self, trajectories: Sequence[Trajectory]) -> Tensor:
        """(N, H): the states from which the responses' tokens are predicted, one response after another."""
        by_place: dict[int, Tensor] = {}
        order = sorted(range(len(trajectories)), key=lambda i: trajectories[i].prefix_ids)
        for prefix, members in groupby(order, key=lambda i: trajectories[i].prefix_ids):
            shared, group = self._prefix_cache(prefix), list(members)
            lengths = [len(trajectories[i].prompt_ids) + len(trajectories[i].response_ids) for i in group]
            for batch in alike(lengths, len(group)):
                places = [group[k] for k in batch]
                states = self._states([trajectories[i] for i in places], len(prefix), shared)
                sizes = [len(trajectories[i].response_ids) for i in places]
                by_place.update(zip(places, states.split(sizes), strict=True))
        return torch.cat([by_place[i] for i in range(len(trajectories))])

    @property
    def _base(self) -> Any:
        return self.policy.get_base_model()

    def _prefix_cache(self, prefix: tuple[int, ...]) -> DynamicCache | None:
        """The keys and values of a prefix, computed once, with their gradient, for all rows that begin with it."""
        if not prefix:
            return None
        if self._is_reference and prefix in self._reference_prefixes:
            return self._reference_prefixes[prefix]
        cache = DynamicCache(config=self._base.config)
        self._decoder(input_ids=torch.tensor([prefix], device=self.device), past_key_values=cache, use_cache=True)
        if self._is_reference and not torch.is_grad_enabled():
            self._reference_prefixes[prefix] = cache
        return cache

    @property
    def _decoder(self) -> Any:
        return decoder_of(self._base)

    def _states(self, group: list[Trajectory], offset: int, shared: DynamicCache | None) -> Tensor:
        """(N, H): the states from which the response tokens are predicted, behind a prefix of ``offset`` tokens."""
        rows = [t.prompt_ids + t.response_ids for t in group]
        longest = max(map(len, rows))
        ids = torch.tensor([r + (0,) * (longest - len(r)) for r in rows], device=self.device)  # (B, L)
        behind: dict[str, Any] = {"use_cache": False}
        if shared is not None:
            cache = DynamicCache(config=self._base.config)
            for index, layer in enumerate(shared.layers):
                wide = (len(group), -1, -1, -1)
                cache.update(layer.keys.expand(wide), layer.values.expand(wide), index)
            positions = torch.arange(offset, offset + longest, device=self.device)[None]
            behind = {"position_ids": positions, "past_key_values": cache, "use_cache": True}
        with self._layers_checkpointed():
            states = self._decoder(input_ids=ids, **behind).last_hidden_state  # (B, L, H)
        predicts = torch.zeros(ids.shape, dtype=torch.bool, device=self.device)
        for row, one in enumerate(group):
            start = len(one.prompt_ids) - 1
            predicts[row, start : start + len(one.response_ids)] = True
        return states[predicts]

    @contextmanager
    def _layers_checkpointed(self) -> Iterator[None]:
        """Not by transformers' own switch, which asks for training mode, and in it some layers drop values out. What is
        computed again, in a backward pass that may come later, is computed with the adapter that is on now."""
        role = self._as_critic if self.policy.active_adapter == _CRITIC else nullcontext
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
