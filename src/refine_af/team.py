"""Several processes that learn as one, as ``accelerate launch`` and ``torchrun`` start them.

One leads: the run and its rows are in it alone. The others follow: they are told what to write and what to learn from,
take their part of it through their own network, and completions are gathered, gradients summed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from refine_af.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

Item = TypeVar("Item")

# By these libraries would take the leader for one of many in stages that it does alone, and wait for the others.
_LAUNCHED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "ROLE_RANK", "ROLE_WORLD_SIZE")
_PATIENCE = timedelta(days=30)  # followers wait while the leader generates, which no library's default allows for
_SHARDING = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
}


@dataclass
class Team:
    """``size`` processes, of which this is number ``rank``; ``here`` of them are on this machine."""

    rank: int = 0
    size: int = 1
    here: int = 1
    _dismissed: bool = False

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """This process's part: every item is in exactly one part."""
        return items[self.rank :: self.size]

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Puts the sums over all processes in the tensors' places. All must call it, with the same shapes."""
        if self.size == 1:
            return
        import torch

        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        torch.distributed.all_reduce(flat)
        for tensor, total in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(total.view_as(tensor))

    def gather(self, item: Item) -> list[Item]:
        """Every process's, in the order of their ranks, for the leader; empty for others. All must call it."""
        if self.size == 1:
            return [item]
        import torch

        items: list[Any] | None = [None] * self.size if self.leads else None
        torch.distributed.gather_object(item, items)
        return items or []

    @contextmanager
    def sharing_cores(self, threads: int) -> Iterator[None]:
        """While it lasts, the processes on this machine share the cores that one would compute with alone."""
        import torch

        torch.set_num_threads(max(1, threads // self.here))
        try:
            yield
        finally:
            torch.set_num_threads(threads)

    def tell(self, order: Any) -> None:
        """The leader's: hands the order to all that follow."""
        if self.size > 1 and not self._dismissed:
            _broadcast([order])

    def told(self) -> Any:
        """A follower's: the leader's next order, waited for; None when there is nothing more to do."""
        box: list[Any] = [None]
        _broadcast(box)
        return box[0]

    def dismiss(self) -> None:
        """The leader's: lets those that follow end, if they haven't yet."""
        self.tell(None)
        self._dismissed = True


def _broadcast(box: list[Any]) -> None:
    import torch

    torch.distributed.broadcast_object_list(box, src=0, device=torch.device("cpu"))


def _number(variable: str, default: int) -> int:
    """What a launcher has put into the environment."""
    value = os.environ.get(variable, str(default))
    if not (value.isascii() and value.strip().isdigit()):
        raise UsageError(
            f"{variable}={value!r} is not a number; start with `accelerate launch` or `torchrun`, or unset WORLD_SIZE"
        )
    return int(value)


@contextmanager
def launched_team() -> Iterator[Team]:
    """The team that a launcher started this process in; one alone where none did.

    Raises UsageError for a launcher's setting that shards the model: every process holds all of it here; and where
    the environment names a team and not this process's place in it, as a job's script may leave it, or no numbers.
    """
    size = _number("WORLD_SIZE", 1)
    if size == 1:
        yield Team()
        return
    for variable, name in _SHARDING.items():
        if os.environ.get(variable, "").lower() in ("1", "true", "yes"):
            raise UsageError(f"launched with {name}, which shards the model; launch without it: each process holds it")
    if "RANK" not in os.environ:
        raise UsageError(
            f"WORLD_SIZE is {size} and RANK is not set; start with `accelerate launch` or `torchrun`, "
            "or unset WORLD_SIZE"
        )
    import torch

    rank, here = _number("RANK", 0), _number("LOCAL_WORLD_SIZE", size)
    on_gpu = torch.cuda.is_available() and os.environ.get("ACCELERATE_USE_CPU", "").lower() not in ("1", "true", "yes")
    if on_gpu:
        torch.cuda.set_device(_number("LOCAL_RANK", 0))
    torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=_PATIENCE)
    for variable in _LAUNCHED:
        os.environ.pop(variable, None)
    yield Team(rank, size, here)
    torch.distributed.destroy_process_group()
