"""Constitutions: principles that replies are criticised, revised and compared by, and rules that check them."""
