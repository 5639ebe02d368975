"""The one training loop, optimisers, schedules and checkpoints."""
