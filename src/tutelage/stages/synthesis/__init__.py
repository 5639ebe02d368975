"""What `synthesize` makes, one small file a kind, and what every kind goes through."""
