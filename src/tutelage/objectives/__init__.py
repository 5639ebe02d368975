"""Training objectives: pure functions from log-probs, rewards and masks to a summed loss and its count."""
