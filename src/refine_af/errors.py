"""The errors a user can cause or meet. Each becomes one line on stderr: what, where, what to do."""


class RefineError(Exception):
    """Something went wrong that one sentence explains; the command ends with exit code 1."""

    exit_code = 1


class UsageError(RefineError):
    """The user's input, configuration or machine must change before it can work; exit code 2."""

    exit_code = 2


class InterruptedRunError(RefineError):
    """The user pressed Ctrl-C; exit code 130, as shells have it."""

    exit_code = 130


class DiskFullError(UsageError):
    """No space is left; what was committed before stays usable."""
