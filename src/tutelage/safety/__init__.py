"""What makes a model honest and hard to talk into harm: questions about what is not, attacks, and probes."""
