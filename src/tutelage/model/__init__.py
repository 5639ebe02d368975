"""Decoders of the Llama family in plain torch: no settings, no training, no distribution."""
