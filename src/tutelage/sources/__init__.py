"""Readers: files into documents, conversations and preferences; and the stores inside our own artifacts."""
