"""The commands, each one function; what takes long to import is imported inside."""

FAILED_ROWS, WRONG_USAGE, INTERRUPTED = 1, 2, 130
"""Exit codes."""
