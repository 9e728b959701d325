"""Encoder checkpoints to graphs or packed weights, compared with the original by a gate. Needs torch."""
