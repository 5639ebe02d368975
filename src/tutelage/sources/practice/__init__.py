"""Conversations in which tools are called, to learn from and to be measured on: generated, and of data sets."""
