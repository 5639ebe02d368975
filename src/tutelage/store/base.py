"""What all tables share: the metadata with names for constraints, and text that holds anything a model may write."""

from __future__ import annotations

import json
import re
from typing import Any, ClassVar

from sqlalchemy import JSON, MetaData, Text
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.types import TypeDecorator

NAMES = {
    "ix": "ix_%(column_0_N_label)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
_MARK = "\ue000json:"
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


class AnyText(TypeDecorator[str]):
    """Text that may hold NUL and halves of surrogate pairs, which databases refuse: such a text is stored as JSON."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Plain where it can be."""
        if value is None or not (_UNSTORABLE.search(value) or value.startswith(_MARK)):
            return value
        return _MARK + json.dumps(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        """The text that was given."""
        if value is None or not value.startswith(_MARK):
            return value
        text: str = json.loads(value.removeprefix(_MARK))
        return text


class Base(DeclarativeBase):
    """The parent of all tables. Times are seconds since 1970, UTC."""

    metadata = MetaData(naming_convention=NAMES)
    type_annotation_map: ClassVar = {str: AnyText, dict[str, Any]: JSON, list[Any]: JSON}
