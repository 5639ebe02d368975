"""All tables: a file of tables is imported here, so that its tables are in the metadata that migrations see."""

from __future__ import annotations

from tutelage.store import label_tables as label_tables
from tutelage.store.base import Base

METADATA = Base.metadata
