"""The web app: pages over a run, its labels, its stored completions and, where they are served, its models."""
