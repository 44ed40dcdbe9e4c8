"""The errors a user can cause or meet. Each becomes one line on stderr: what, where, what to do."""

from __future__ import annotations

from collections.abc import Sequence


class RefineError(Exception):
    """Something went wrong that one sentence explains; the command ends with exit code 1."""

    exit_code = 1


class UsageError(RefineError):
    """The user's input, configuration or machine must change before it can work; exit code 2."""

    exit_code = 2


class NotFiniteError(RefineError):
    """A step of training came to a number that is none; ``places`` are those of the responses it was made of."""

    def __init__(self, places: Sequence[int]) -> None:
        super().__init__("the loss or its gradient is not finite")
        self.places = tuple(places)


class InterruptedRunError(RefineError):
    """The user pressed Ctrl-C; exit code 130, as shells have it."""

    exit_code = 130


class DiskFullError(UsageError):
    """No space is left; what was committed before stays usable."""
