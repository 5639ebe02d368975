"""All tables: a file of tables is imported here, so that its tables are in the metadata that migrations see."""

from __future__ import annotations

from tutelage.store import completion_tables, label_tables
from tutelage.store.base import Base

FILES = completion_tables, label_tables
METADATA = Base.metadata
