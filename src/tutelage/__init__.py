"""Tutelage raises a language model: from raw documents to an aligned, evaluated assistant."""

__version__ = "0.1.0"
