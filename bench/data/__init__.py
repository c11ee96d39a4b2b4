"""Parallel text: the registry of data sets, downloads, cleaning, tokenising and batching."""
