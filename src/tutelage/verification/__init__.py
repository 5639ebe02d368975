"""Proofs about a finished run: nothing was lost in curation, models load again, killed runs end the same."""
