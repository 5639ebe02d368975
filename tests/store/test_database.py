"""The database: migrations that give the tables of the code, text that holds anything, one moment for each reader."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import func, inspect, select, text

from tutelage.errors import ArtifactError, ResourceError, TutelageError
from tutelage.store.engine import FILE, Store, open_store, opened, store_url
from tutelage.store.label_tables import Annotator
from tutelage.store.tables import METADATA


def test_migrations_give_the_tables_of_the_code(store_url: str) -> None:
    with opened(store_url) as store, store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []
        assert set(METADATA.tables) | {"alembic_version"} == set(inspect(connection).get_table_names())


def test_a_store_is_opened_by_many_at_once_and_again(store_url: str) -> None:
    code = "import sys; from tutelage.store.engine import open_store; open_store(sys.argv[1]).close()"
    running = [subprocess.Popen([sys.executable, "-c", code, store_url], stderr=subprocess.PIPE) for _ in range(3)]
    assert [(process.communicate()[1].decode(), process.returncode) for process in running] == [("", 0)] * 3
    with opened(store_url) as store, store.read() as session:
        assert session.scalar(select(func.count()).select_from(Annotator)) == 0


@pytest.mark.parametrize("name", ["plain", "zero \x00 byte", "half \ud83d of a pair", "\ue000json:not", "żółw 🐢", ""])
def test_any_text_comes_back(store_url: str, name: str) -> None:
    with opened(store_url) as store:
        with store.write() as session:
            session.add(Annotator(name=name, kind="person", created=0.0))
        with store.read() as session:
            assert session.scalars(select(Annotator.name)).all() == [name]
            assert session.scalars(select(Annotator).where(Annotator.name == name)).one().kind == "person"


def test_a_write_is_whole_or_nothing_and_readers_see_one_moment(store_url: str) -> None:
    def people(store: Store) -> int:
        with store.read() as session:
            return session.scalar(select(func.count()).select_from(Annotator)) or 0

    with opened(store_url) as store:
        with suppress(ZeroDivisionError), store.write() as session:
            session.add(Annotator(name="a", kind="person", created=0.0))
            session.flush()
            assert people(store) == 0  # beside an open writer, without waiting
            raise ZeroDivisionError
        assert people(store) == 0
        with store.write() as session:
            session.add(Annotator(name="a", kind="person", created=0.0))
        assert people(store) == 1


def test_sqlite_keeps_what_it_answered(tmp_path: Path) -> None:
    with opened(store_url_of(tmp_path)) as store, store.read() as session:
        found = {
            name: session.scalar(text(f"PRAGMA {name}")) for name in ("journal_mode", "synchronous", "busy_timeout")
        }
    assert found == {"journal_mode": "wal", "synchronous": 2, "busy_timeout": 30_000}


def store_url_of(folder: Path) -> str:
    return f"sqlite:///{folder / FILE}"


def test_the_url_of_the_environment_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TUTELAGE_STORE", raising=False)
    with opened(store_url(tmp_path / "ru n?")):
        assert (tmp_path / "ru n?" / FILE).exists()
    monkeypatch.setenv("TUTELAGE_STORE", "postgresql://h/d")
    assert store_url(tmp_path) == "postgresql://h/d"


def test_newer_stores_damaged_files_and_foreign_urls_are_explained(tmp_path: Path) -> None:
    url = store_url_of(tmp_path)
    with opened(url) as store, store.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ArtifactError, match=r"revision 9999[^→]*→ it was written by newer code"):
        open_store(url)
    (tmp_path / "damaged").write_bytes(b"no database at all" * 99)
    wrong: dict[str, tuple[type[TutelageError], str]] = {
        f"sqlite:///{tmp_path / 'damaged'}": (ArtifactError, "file is not a database"),
        "mysql://h/d": (ArtifactError, "not (understood|supported)"),
        "nonsense": (ArtifactError, "'nonsense' is not understood"),
        "no://u:secret@h/d": (ArtifactError, "'no://h/d' is not understood"),
        f"sqlite:///{tmp_path}": (ResourceError, "unable to open"),
        "postgresql://u:secret@127.0.0.1:9/d": (ResourceError, r"\*\*\*@127.0.0.1:9/d: [\s\S]*is the server running"),
    }
    for given, (kind, message) in wrong.items():
        with pytest.raises(kind, match=message) as error:
            open_store(given)
        assert "secret" not in str(error.value)
