"""Trireme: Hugging Face checkpoints as a Triton model repository that embeds, searches and reranks."""

__version__ = "0.1.0"
