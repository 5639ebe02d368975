"""Conversations to practise on: tool calls, generated and of data sets; what other practice is made of."""
