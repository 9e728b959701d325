"""Encoder checkpoints to graphs or packed weights, behind a gate that compares them with the original. Needs torch."""
