"""Preferences of people and of judges: items, who is given which, judgements, and what they come to."""
