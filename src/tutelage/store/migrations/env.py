"""What Alembic runs: on the connection and inside the transaction that `store.migrate` opened."""

from __future__ import annotations

from typing import Any, Literal

from alembic import context

from tutelage.store.base import AnyText
from tutelage.store.tables import METADATA


def _rendered(kind: str, item: Any, autogenerate: Any) -> str | Literal[False]:
    """A migration stands for itself: it names what databases know, not types of ours."""
    return "sa.Text()" if kind == "type" and isinstance(item, AnyText) else False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    render_as_batch=True,
    render_item=_rendered,
    transactional_ddl=True,  # SQLite's too: all or nothing
)
with context.begin_transaction():
    context.run_migrations()
