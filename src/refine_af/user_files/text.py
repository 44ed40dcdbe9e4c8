"""From a file to its text: unpacked, decoded, with line ends of one kind; what is no text is refused by its kind."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from refine_af.errors import UsageError

_GZIP = b"\x1f\x8b"
_UNPACK = "unpack it first"
_AS_CSV = "save the sheet as CSV in UTF-8"
# How the kinds of files begin that people have such data in, and what to do with them.
_KINDS = (
    (b"PK\x03\x04", "is a spreadsheet or a zip archive", f"{_AS_CSV}, or unpack the archive"),
    (b"\xd0\xcf\x11\xe0", "is an old spreadsheet", _AS_CSV),
    (b"ARROW1", "is an Arrow file", "write it as JSONL or parquet, such as with Dataset.to_json"),
    (b"\xff\xff\xff\xff", "is an Arrow stream", "write it as JSONL or parquet, such as with Dataset.to_json"),
    (b"SQLite format 3", "is a database", "write the table as CSV"),
    (b"\x28\xb5\x2f\xfd", "is packed by zstd", _UNPACK),
    (b"\xfd7zXZ", "is packed by xz", _UNPACK),
    (b"BZh", "is packed by bzip2", _UNPACK),
    (b"\xff\xfe", "is UTF-16", "save the file as UTF-8"),
    (b"\xfe\xff", "is UTF-16", "save the file as UTF-8"),
)


def read_text(path: Path, name: str, expected: str = "a JSONL, CSV or parquet file") -> str:
    """The file's text, unpacked where it is gzipped, without a byte order mark.

    Raises UsageError that begins with ``name``. ``expected``: what to give in place of a folder.
    """
    return decoded(read_bytes(path, name, expected), name)


def read_bytes(path: Path, name: str, expected: str = "a JSONL, CSV or parquet file") -> bytes:
    """What the file holds, unpacked where it is gzipped. Raises UsageError as :func:`read_text`."""
    try:
        raw = path.read_bytes()
        return gzip.decompress(raw) if path.name.lower().endswith(".gz") or raw.startswith(_GZIP) else raw
    except FileNotFoundError:
        raise UsageError(f"{name} is not there") from None
    except IsADirectoryError:
        raise UsageError(f"{name} is a folder; give {expected}") from None
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise UsageError(f"{name} is no whole gzip file; download it again") from None
    except (OSError, ValueError) as error:  # the latter: no file can have such a name
        raise UsageError(f"{name} can't be read: {getattr(error, 'strerror', None) or error}") from None


def decoded(raw: bytes, name: str) -> str:
    """The text of UTF-8. Raises UsageError as :func:`read_text`."""
    for beginning, kind, advice in _KINDS:
        if raw.startswith(beginning):
            raise UsageError(f"{name}, line 1: not UTF-8: the file {kind}; {advice}")
    raw = raw.removeprefix(b"\xef\xbb\xbf")  # the mark that some editors put first
    try:
        text = raw.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise UsageError(f"{name}, line {line}: not UTF-8; save the file as UTF-8") from None
    return text if "\n" in text else text.replace("\r", "\n")  # lines as old Macs end them


def numbered_lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, with their numbers."""
    # Not splitlines: JSON may hold U+2028 and its like inside a string.
    return ((number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip())
