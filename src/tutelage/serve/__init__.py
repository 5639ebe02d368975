"""The OpenAI-compatible API: models of a run over HTTP."""
