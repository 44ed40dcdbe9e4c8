"""One network in three roles: policy (adapter on), reference (adapter off), and, where there is one, critic (a head on
the policy's states, or on those of an adapter of its own)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from peft import get_peft_model, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import Tensor, nn

from refine_af.config import LoraSettings
from refine_af.errors import UsageError
from refine_af.lora import adaptable_layers, lora_config, save_adapter
from refine_af.models import check_targets
from refine_af.rl.responses import Again, Beginnings, ResponseReader, Trajectory, can_recompute

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Critic = Literal["head", "adapter"]
_POLICY, _CRITIC = "default", "critic"  # adapters; a folder of peft's that names none holds the default


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Per response token, all (N,) with the responses one after another; the last two empty unless asked for."""

    log_probs: Tensor  # at the policy's temperature
    values: Tensor  # in units of its own; zeros without a critic
    entropy: Tensor
    plain_log_probs: Tensor  # at temperature 1


class ActorCritic(nn.Module):
    """Puts a LoRA adapter on ``network`` (in place; :meth:`release` takes it off) and a value head on its states.

    ``critic``: whether the head reads the policy's states, or those of a second adapter, or there is none.
    ``checkpointing``: as
    :class:`~refine_af.rl.responses.ResponseReader` has it. Raises UsageError for a network that can't be checkpointed,
    and for one whose own log-probabilities are not found in a trial.
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
        critic: Critic | None = "head",
    ) -> None:
        super().__init__()
        self.temperature = temperature
        check_targets("policy.lora", lora.targets, adaptable_layers(network), label)
        if checkpointing and not any(map(can_recompute, network.modules())):
            raise UsageError(f"policy.gradient_checkpointing: no layer of {label} can do so; set it to false")
        torch.manual_seed(seed)  # the adapter's first weights
        self._is_reference = False
        self._reference_beginnings: Beginnings = {}
        self.policy = get_peft_model(network, lora_config(lora))
        self.policy.peft_config[_POLICY].base_model_name_or_path = label
        self._adapter = self._parameters_of(_POLICY)
        self._critic_adapter: dict[str, nn.Parameter] = {}
        if critic == "adapter":
            self.policy.add_adapter(_CRITIC, lora_config(lora))
            self._critic_adapter = self._parameters_of(_CRITIC)
            self._let_learn()
        self.value_head: nn.Module = _NoCritic() if critic is None else _value_head(network)
        base = self.policy.get_base_model()
        self._reader = ResponseReader(
            base,
            temperature=temperature,
            checkpointing=checkpointing,
            role=self._role,
            refusal=f"the policy stage can't train {label}: the log-probabilities that it finds are not those of a "
            f"{type(base).__name__}; take another model, or policy.algorithm=none",
        )

    @property
    def device(self) -> torch.device:
        return self.policy.device

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
        states = self._states(trajectories)  # (N, H)
        found = self._reader.figures(states, trajectories, watch=watch)
        # A critic without an adapter reads the policy's states and leaves them alone: its loss moves no adapter.
        read = states.detach()
        if self._critic_adapter and not self._is_reference:
            with self._as_critic():
                read = self._states(trajectories)
        values = self.value_head(read.float()).squeeze(-1)
        return Evaluation(found.log_probs, values, found.entropy, found.plain)

    def _states(self, trajectories: Sequence[Trajectory]) -> Tensor:
        """(N, H). What the reference keeps of beginnings holds for good."""
        keeps = self._is_reference and not torch.is_grad_enabled()
        return self._reader.states(trajectories, self._reference_beginnings if keeps else None)

    def _role(self) -> Again:
        """Makes the context in which the adapter that is on now is on again."""
        return self._as_critic if self.policy.active_adapter == _CRITIC else nullcontext


class _NoCritic(nn.Module):
    """Takes every state to be worth 0, and learns nothing."""

    def forward(self, states: Tensor) -> Tensor:
        return states.new_zeros(len(states), 1)


def _value_head(network: PreTrainedModel) -> nn.Linear:
    """Takes every state to be worth 0, as long as it has not learnt."""
    head = nn.Linear(network.config.get_text_config().hidden_size, 1, device=network.device)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head
