"""Carrying out many independent tasks at once."""
