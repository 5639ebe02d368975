"""What the stages that align a model share: rollouts and their rewards, preference pairs, samples, notes in words."""
