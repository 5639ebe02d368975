"""What the stages `memory` and `persona` can be told."""
