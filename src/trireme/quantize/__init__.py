"""Quantizes causal language models into ordinary Hugging Face checkpoints, behind a quality gate."""
