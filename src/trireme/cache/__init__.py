"""Answers that were given before: what a question is to a cache, tiers of caches, and their ports."""
