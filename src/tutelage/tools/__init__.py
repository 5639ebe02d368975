"""Tools that a model may call: what they are, how calls are written and read, and the ones that come along."""
