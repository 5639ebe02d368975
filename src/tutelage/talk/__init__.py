"""Talking to models: sessions, streaming, the terminal, comparison side by side."""
