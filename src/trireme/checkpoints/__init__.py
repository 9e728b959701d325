"""Checkpoints as others trained them: where their files are, what they say, which families are known."""
