"""Encoders: tokenize, batch by a token budget, run, pool."""
