"""A full disk or memory, told in one line, wherever it was met."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from refine_af.errors import DiskFullError, UsageError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def is_full(error: BaseException) -> bool:
    """Whether the file system says that no space is left."""
    return isinstance(error, OSError) and error.errno in _FULL


@contextmanager
def exhaustion_explained(folder: Path, remedy: str) -> Iterator[None]:
    """Turns "no space left" of the file system, and of libraries that wrap it, into a DiskFullError, and an
    allocation that failed into a UsageError, which ends with the ``remedy``: how the command goes on with less."""
    try:
        yield
    except DiskFullError:
        raise
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None:
            # safetensors and torch raise their own types, with the system's words in them.
            if is_full(cause) or "No space left on device" in str(cause) or "os error 28" in str(cause):
                raise DiskFullError(
                    f"no space left while writing for {folder}; what was done before is kept: "
                    "free some space and run the same command again"
                ) from error
            if isinstance(cause, MemoryError) or "out of memory" in str(cause) or "allocate memory" in str(cause):
                raise UsageError(
                    f"out of {_kind(cause)}; what was done before is kept in {folder}: {remedy}"
                ) from error
            cause = cause.__cause__ or cause.__context__
        raise


def _kind(cause: BaseException) -> str:
    if "CUDA" in str(cause):
        return "GPU memory"
    return "RAM" if isinstance(cause, MemoryError) or "allocate memory" in str(cause) else "memory"
