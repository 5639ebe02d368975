"""The database: SQLite in the run folder, or PostgreSQL by URL; sessions, tables and their migrations."""
