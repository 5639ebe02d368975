"""What the stages `canaries` and `privacy` can be told."""
