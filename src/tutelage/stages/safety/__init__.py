"""What the stages `honesty`, `redteam` and `probes` can be told."""
