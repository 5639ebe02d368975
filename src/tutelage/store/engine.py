"""Opening a store: an engine by URL, short sessions to read or to write, migrations when the file is old or new."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.orm import Session

from tutelage.errors import ArtifactError, ResourceError
from tutelage.store.migrate import upgrade

FILE = "store.sqlite"
VARIABLE = "TUTELAGE_STORE"
BUSY_MS = 30_000  # how long a writer waits for the others; theirs take milliseconds


class Store:
    """A database whose tables are up to date. Sessions are short: one question, or one change, each."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._reading = engine.execution_options(only_reads=True)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that sees one moment and never waits for writers."""
        with Session(self._reading, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session that commits as a whole when the block ends, or not at all."""
        with Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session

    def close(self) -> None:
        """Give back connections; what was committed is on the disk already."""
        self.engine.dispose()


def store_url(run: Path) -> str:
    """The URL of `TUTELAGE_STORE`, else a SQLite file in the run folder."""
    return os.environ.get(VARIABLE) or str(URL.create("sqlite", database=str(run / FILE)))


@contextmanager
def opened(url: str) -> Iterator[Store]:
    """`open_store`, closed at the end."""
    store = open_store(url)
    try:
        yield store
    finally:
        store.close()


def open_store(url: str) -> Store:
    """Connect, and bring the tables up to date. ArtifactError or ResourceError says what is in the way."""
    parsed = _parsed(url)
    if parsed.database and parsed.get_backend_name() == "sqlite":
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    try:
        engine = create_engine(parsed, pool_pre_ping=parsed.get_backend_name() != "sqlite")
    except ImportError as error:
        raise ResourceError(f"{parsed.drivername}: {error}", hint="pip install 'tutelage[postgres]'") from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    try:
        upgrade(engine)
    except DBAPIError as error:
        engine.dispose()
        raise _unusable(parsed, error) from error
    except BaseException:
        engine.dispose()
        raise
    return Store(engine)


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
        if parsed.drivername in ("postgres", "postgresql"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        parsed.get_dialect()
    except (ArgumentError, NoSuchModuleError) as error:
        raise ArtifactError(
            f"the store's URL {_without_password(url)!r} is not understood",
            hint="for example sqlite:///labels.sqlite, or postgresql://user@host/database",
        ) from error
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise ArtifactError(f"a store in {parsed.get_backend_name()} is not supported", hint="use SQLite or PostgreSQL")
    return parsed


def _without_password(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def _prepare_sqlite(connection: sqlite3.Connection, record: Any) -> None:
    """Readers beside one writer (WAL), writers that wait, a commit that is on the disk before it is answered."""
    connection.isolation_level = None  # transactions begin where `_begin_sqlite` says, not where the driver guesses
    for pragma in (f"busy_timeout={BUSY_MS}", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    """A writer asks for the lock at once: a reader that becomes a writer half-way would fail without waiting."""
    reads = connection.get_execution_options().get("only_reads")
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _unusable(url: URL, error: DBAPIError) -> ArtifactError | ResourceError:
    shown, reason = url.render_as_string(hide_password=True), str(error.orig).strip()
    if isinstance(error.orig, sqlite3.DatabaseError) and not isinstance(error.orig, sqlite3.OperationalError):
        return ArtifactError(f"{shown}: {reason}", hint="it is damaged or no store: move it away, or restore a copy")
    return ResourceError(
        f"{shown}: {reason}",
        hint="is the server running, does the database exist, and may this user write there? SQLite needs a local disk",
    )
