"""Promises of the plain display: durations as people write them, few lines, and what each line says."""

from __future__ import annotations

import contextlib
import io
import re
import sys

import pytest

from refine_af import progress
from refine_af.progress import Interruptible, Lines, Silent, duration, shown_progress


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (42.4, "42 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (60, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3599, "59 min 59 s"),
        (3599.7, "1 h 00 min"),
        (3600, "1 h 00 min"),
        (7805, "2 h 10 min"),
        (100 * 3600, "100 h 00 min"),
    ],
)
def test_durations_are_as_people_write_them(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


class Time:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Time:
    made = Time()
    monkeypatch.setattr(progress, "time", made)
    return made


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


def lines(stream: io.StringIO) -> list[str]:
    return stream.getvalue().splitlines()


def test_a_stage_is_a_beginning_some_figures_and_a_summary(clock: Time, stream: io.StringIO) -> None:
    shown = Lines(stream, every=5)
    shown.begin("instructions", 100, "kept")
    clock.now += 10
    shown.update(20, {"yield": "50%", "dropped": "too short 3"})
    clock.now += 55
    shown.end("100 kept of 200")
    assert lines(stream) == [
        "instructions: begins",
        "instructions: 20/100 kept, 2.0/s, 40 s left, yield 50%, dropped too short 3",
        "instructions: 100 kept of 200 (1 min 05 s)",
    ]


def test_a_resumed_stage_says_where_and_counts_its_rate_from_there(clock: Time, stream: io.StringIO) -> None:
    shown = Lines(stream)
    shown.begin("policy", 20, "iterations", 10)
    clock.now += 30
    shown.update(12)
    assert lines(stream) == [
        "policy: goes on at 10 of 20 iterations",
        "policy: 12/20 iterations, 15.0 s each, 2 min 00 s left",
    ]


def test_a_stage_without_a_total_shows_no_time_left(clock: Time, stream: io.StringIO) -> None:
    shown = Lines(stream)
    shown.begin("stage", None, "rows")
    clock.now += 10
    shown.update(40)
    assert lines(stream)[-1] == "stage: 40 rows, 4.0/s"


def test_a_resumed_stage_without_a_total_names_none(clock: Time, stream: io.StringIO) -> None:
    Lines(stream).begin("stage", None, "rows", 3)
    assert "None" not in stream.getvalue()


def test_before_anything_is_made_there_is_no_rate_and_at_the_end_no_time_left(clock: Time, stream: io.StringIO) -> None:
    shown = Lines(stream, every=0)
    shown.begin("stage", 4, "rows")
    clock.now += 2
    shown.update(0)
    shown.update(4)
    assert lines(stream)[1:] == ["stage: 0/4 rows", "stage: 4/4 rows, 2.0/s"]


def test_lines_come_at_most_every_few_seconds_and_a_new_stage_shows_its_first(clock: Time, stream: io.StringIO) -> None:
    shown = Lines(stream, every=5)
    shown.begin("one", 100, "rows")
    for done in range(1, 13):
        clock.now += 1
        shown.update(done)
    assert [int(m) for m in re.findall(r"one: (\d+)/", stream.getvalue())] == [1, 6, 11]
    shown.begin("two", 100, "rows")
    clock.now += 0.1
    shown.update(1)
    assert lines(stream)[-1].startswith("two: 1/100 rows")


def test_notes_are_lines_at_once(stream: io.StringIO) -> None:
    Lines(stream).note("a warning")
    assert lines(stream) == ["a warning"]


def test_quiet_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with shown_progress(quiet=True) as shown:
        assert isinstance(shown, Silent)
        shown.note("x")
        shown.begin("stage", 1, "rows")
        shown.update(1, {"a": "b"})
        shown.end("done")
    assert capsys.readouterr() == ("", "")


def test_where_stderr_is_no_terminal_plain_lines_go_there(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    with shown_progress(quiet=False) as shown:
        shown.note("a note")
    assert lines(stream) == ["a note"]


def test_a_ctrl_c_that_a_library_swallowed_is_raised_again_at_the_next_unit_of_work() -> None:
    shown = Interruptible(Silent())
    shown.update(1)
    with contextlib.suppress(KeyboardInterrupt):
        shown.press()
    with pytest.raises(KeyboardInterrupt):
        shown.update(2)
    with pytest.raises(KeyboardInterrupt):
        shown.begin("policy", 3, "iterations")
