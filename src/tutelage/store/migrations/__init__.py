"""Alembic's folder: how migrations are run, and the revisions."""
