"""Worlds of one or many processes, and sharding of models from outside."""
