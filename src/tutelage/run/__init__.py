"""Recipes as graphs: checking, execution, manifests, lineage, status."""
