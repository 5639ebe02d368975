"""Stored completions and their metadata."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "completion",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("created", sa.Integer(), nullable=False),
        sa.Column("request_sha256", sa.String(length=64), nullable=False),
        sa.Column("idempotency_key", sa.String(length=256), nullable=True),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("messages", sa.JSON(), nullable=False),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_completion")),
        sa.UniqueConstraint("owner", "idempotency_key", name=op.f("uq_completion_owner_idempotency_key")),
    )
    op.create_index("ix_completion_order", "completion", ["owner", "created", "id"])
    op.create_index("ix_completion_request", "completion", ["owner", "request_sha256"])
    op.create_table(
        "completion_pair",
        sa.Column("completion_id", sa.String(length=64), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["completion_id"], ["completion.id"], name=op.f("fk_completion_pair_completion_id")),
        sa.PrimaryKeyConstraint("completion_id", "place", name=op.f("pk_completion_pair")),
    )
    op.create_index("ix_completion_pair_key", "completion_pair", ["key", "value"])
