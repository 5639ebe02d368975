"""What a user has told: remembered over turns, noted down at the end of a session, carried into the next, forgotten."""
