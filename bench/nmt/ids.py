"""The special ids of every vocabulary; apart from the model, so that no other engine needs to load PyTorch for them."""

PAD, UNK, BOS, EOS = 0, 1, 2, 3
"""The decoder starts from BOS and both sides end with EOS."""
