"""Preferences of people and of AI judges, through the store."""
