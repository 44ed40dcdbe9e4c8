"""Folders that can't be had are told in one line; a full disk is left to who explains it."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from refine_af.errors import UsageError
from refine_af.files import check_folder, make_folder


def test_a_folder_that_only_trying_shows_to_be_impossible_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOENT, "No such file or directory")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(UsageError, match=r"^--out .*new can't be made: No such file or directory; choose another"):
        make_folder(tmp_path / "new")


def test_a_full_disk_is_no_wrong_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(OSError, match="No space left"):
        make_folder(tmp_path / "new")


def test_a_folder_is_made_with_those_above_it_and_may_be_there(tmp_path: Path) -> None:
    for _ in range(2):
        make_folder(tmp_path / "a" / "b")
        check_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


def test_a_link_in_a_circle_or_a_name_too_long_is_told_before_work_begins(tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    for name in ("circle", "o" * 300):
        with pytest.raises(UsageError, match="choose another folder"):
            check_folder(tmp_path / name)
