"""Migrations, run whenever a store is opened: by one process, while the others wait."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

from tutelage.errors import ArtifactError

FOLDER = Path(__file__).parent / "migrations"
_POSTGRES_LOCK = 0x7475746C  # any number that nobody else locks: "tutl"


def configuration() -> Config:
    """Alembic's settings for the migrations in this package."""
    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    return config


def upgrade(engine: Engine) -> None:
    """Bring the tables to the newest revision, all or nothing; ArtifactError for a store of newer code."""
    scripts = ScriptDirectory.from_config(configuration())
    newest = scripts.get_current_head()
    with engine.execution_options(only_reads=True).connect() as connection:
        if _revision(connection) == newest:
            return
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _POSTGRES_LOCK})
        found = _revision(connection)
        if found is not None and found not in {script.revision for script in scripts.walk_revisions()}:
            raise ArtifactError(
                f"the store {engine.url.render_as_string(hide_password=True)} is at revision {found}, which this "
                "version does not know",
                hint="it was written by newer code: upgrade tutelage, or open another store",
            )
        if found != newest:
            config = configuration()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()
