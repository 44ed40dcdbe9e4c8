"""A SQLite file (WAL): opened, migrated, asked, and written to all or nothing. Knows no table."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from refine_af.errors import DiskFullError, RefineError, UsageError
from refine_af.migrations import migrate

_Own = TypeVar("_Own", bound="Database")


class Database:
    """Opens (and creates or migrates) ``path``. Use as a context manager, or call :meth:`close`."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self._depth = 0
        with self._translated():
            # Not mode=ro in the address: a reader of a WAL database must be able to open its side files.
            self._db = sqlite3.connect(path, isolation_level=None, timeout=30)
        if read_only:
            self._db.execute("PRAGMA query_only=ON")
        self._db.row_factory = sqlite3.Row
        if not read_only:
            try:
                with self._translated():
                    self._db.execute("PRAGMA journal_mode=WAL")
                    self._db.execute("PRAGMA synchronous=NORMAL")
                    migrate(self._db)
            except BaseException:
                self._db.close()
                raise

    def __enter__(self: _Own) -> _Own:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if "full" in str(error) or "disk I/O" in str(error):
                raise DiskFullError(
                    f"no space left for {self.path} ({error}); what was done before is kept: "
                    "free some space and run the same command again"
                ) from error
            if "unable to open" in str(error) or "readonly" in str(error):
                raise UsageError(
                    f"{self.path} can't be opened ({error}); check its permissions, or choose another folder"
                ) from error
            raise
        except sqlite3.DatabaseError as error:
            if type(error) is not sqlite3.DatabaseError:  # a broken rule of the schema
                raise RefineError(f"{self.path} refused a row: {error}") from error
            raise UsageError(f"{self.path} is not a usable database ({error}); choose another folder") from error

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing. Nested use joins the outer transaction."""
        if self._depth:
            yield
            return
        with self._translated():
            self._db.execute("BEGIN IMMEDIATE")
            self._depth = 1
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            finally:
                self._depth = 0

    def many(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """One statement for many rows, all or none of them."""
        with self.transaction():
            self._db.executemany(sql, rows)

    def query(self, sql: str, *parameters: Any) -> list[sqlite3.Row]:
        """Rows of a SELECT; for readers such as the report."""
        with self._translated():
            return self._db.execute(sql, parameters).fetchall()

    def scalar(self, sql: str, *parameters: Any) -> Any:
        """The first column of the first row of a SELECT."""
        rows = self.query(sql, *parameters)
        return rows[0][0] if rows else None
