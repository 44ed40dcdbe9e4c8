"""What a person sees while a run works: a live display in a terminal, plain lines elsewhere, nothing with --quiet."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol, TextIO


class Progress(Protocol):
    """Told by the stages what happens; shows it or not."""

    def note(self, text: str) -> None:
        """Something that a user should read."""

    def begin(self, stage: str, total: int | None, unit: str, done: int = 0) -> None:
        """A stage starts, or goes on with ``done`` of ``total`` units."""

    def update(self, done: int, details: Mapping[str, str] | None = None) -> None:
        """``done`` units of the stage are finished; ``details`` are the figures to show, such as yield or reward."""

    def end(self, summary: str) -> None:
        """The stage is finished."""


class Silent:
    """Shows nothing."""

    def note(self, text: str) -> None:
        pass

    def begin(self, stage: str, total: int | None, unit: str, done: int = 0) -> None:
        pass

    def update(self, done: int, details: Mapping[str, str] | None = None) -> None:
        pass

    def end(self, summary: str) -> None:
        pass


class Interruptible:
    """Passes on to a display, and raises a Ctrl-C again at the next unit of work where a library swallowed it.

    Some do, in an import under a bare ``except``; the run would go on as if nothing had been pressed.
    """

    def __init__(self, display: Progress) -> None:
        self._display = display
        self._pressed = False

    def press(self, *_: object) -> None:
        """The handler of SIGINT."""
        self._pressed = True
        raise KeyboardInterrupt

    def note(self, text: str) -> None:
        self._display.note(text)

    def begin(self, stage: str, total: int | None, unit: str, done: int = 0) -> None:
        self._check()
        self._display.begin(stage, total, unit, done)

    def update(self, done: int, details: Mapping[str, str] | None = None) -> None:
        self._display.update(done, details)
        self._check()

    def end(self, summary: str) -> None:
        self._display.end(summary)

    def _check(self) -> None:
        if self._pressed:
            raise KeyboardInterrupt


class _Clock:
    """Rate and time left of a stage, from what was done since this process began it."""

    def __init__(self, total: int | None, done: int) -> None:
        self.total = total
        self.done = self._first = done
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    def figures(self, unit: str) -> str:
        made = self.done - self._first
        parts = [f"{self.done}/{self.total} {unit}" if self.total else f"{self.done} {unit}"]
        if made > 0 and self.seconds > 0:
            rate = made / self.seconds
            parts.append(f"{rate:.1f}/s" if rate >= 1 else f"{1 / rate:.1f} s each")
            if self.total and self.total > self.done:
                parts.append(f"{duration((self.total - self.done) / rate)} left")
        return ", ".join(parts)


def duration(seconds: float) -> str:
    """Seconds as a person writes them: 42 s, 3 min 05 s, 2 h 10 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class Lines:
    """Plain lines, at most one every ``every`` seconds for a stage; for logs and pipes."""

    def __init__(self, stream: TextIO | None = None, every: float = 5.0) -> None:
        self._stream = stream or sys.stderr
        self._every = every
        self._stage, self._unit = "", ""
        self._clock = _Clock(None, 0)
        self._last = 0.0

    def note(self, text: str) -> None:
        print(text, file=self._stream, flush=True)

    def begin(self, stage: str, total: int | None, unit: str, done: int = 0) -> None:
        self._stage, self._unit = stage, unit
        self._clock = _Clock(total, done)
        self._last = 0.0
        self.note(f"{stage}: " + (f"goes on at {done}{f' of {total}' if total else ''} {unit}" if done else "begins"))

    def update(self, done: int, details: Mapping[str, str] | None = None) -> None:
        self._clock.done = done
        now = time.monotonic()
        if now - self._last >= self._every:
            self._last = now
            shown = "".join(f", {name} {value}" for name, value in (details or {}).items())
            self.note(f"{self._stage}: {self._clock.figures(self._unit)}{shown}")

    def end(self, summary: str) -> None:
        self.note(f"{self._stage}: {summary} ({duration(self._clock.seconds)})")


@contextmanager
def shown_progress(*, quiet: bool) -> Iterator[Progress]:
    """The display that fits where stderr goes."""
    if quiet:
        yield Silent()
    elif sys.stderr.isatty():
        from refine_af.display import LiveDisplay

        with LiveDisplay() as display:
            yield display
    else:
        yield Lines()
