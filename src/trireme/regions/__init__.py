"""Beside one Envoy of several regions: how far the others are, and in which order they are asked."""
