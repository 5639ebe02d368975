"""Persona cards: who a model is to be, read from YAML; dialogues that keep to a card; attempts to make it give in."""
