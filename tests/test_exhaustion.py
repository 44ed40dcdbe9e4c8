"""What a command says when the memory is full: which memory, and what it can do with less."""

from __future__ import annotations

from pathlib import Path

import pytest

from refine_af.errors import UsageError
from refine_af.exhaustion import exhaustion_explained


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), "GPU memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), "RAM"),
        (MemoryError(), "RAM"),
        (RuntimeError("out of memory"), "memory"),
    ],
)
def test_a_full_memory_is_told_with_what_the_command_can_do(error: Exception, memory: str) -> None:
    said = f"^out of {memory}; what was done before is kept in here: go on with less$"
    with pytest.raises(UsageError, match=said), exhaustion_explained(Path("here"), "go on with less"):
        raise error


def test_other_faults_pass() -> None:
    with pytest.raises(ValueError, match="else"), exhaustion_explained(Path("here"), "go on with less"):
        raise ValueError("something else")
