"""The small model first: how likely its answer is right, and whether that is enough to keep it."""
