"""Files that appear whole or not at all, whatever happens to the process meanwhile, and folders for one process."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from refine_af.errors import UsageError
from refine_af.exhaustion import is_full


def write_text(path: Path, text: str) -> None:
    """Replaces the file by ``text`` in one step. Raises OSError as writing does; the old file then stands as it was."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="replace", newline="\n") as file:
            file.write(text)
        os.chmod(name, 0o644)  # mkstemp's files are for their owner alone
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


def check_folder(out: Path) -> None:
    """Raises UsageError where ``out`` can't be a folder to write in: a file is in the way, or permission is missing."""
    try:
        out.stat()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        pass
    except OSError as error:  # such as a name that is too long
        raise UsageError(f"--out {out}: {error.strerror}; choose another folder") from None
    for place in (out, *out.parents):
        if place.exists():
            if not place.is_dir():
                raise UsageError(f"--out {out}: {place} is a file; name a folder")
            if not os.access(place, os.W_OK):
                raise UsageError(f"--out {out}: no permission to write in {place}")
            return


def make_folder(out: Path) -> None:
    """Makes ``out`` where it isn't there yet. Raises UsageError for what only trying shows, such as a file
    system that takes no folders, and OSError for a full disk."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if is_full(error):
            raise
        raise UsageError(f"--out {out} can't be made: {error.strerror}; choose another folder") from None


@contextmanager
def one_process(folder: Path) -> Iterator[None]:
    """Holds the folder while the context lasts: a second process would do the same work and collide.

    Raises UsageError where another one holds it. The lock ends with the process, however that ends.
    """
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError(f"another process is at work in {folder}; wait for it or stop it") from None
        yield
