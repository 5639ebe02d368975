"""Judges of replies: simulated annotators with a stated rubric."""
