"""Measures how the models of this machine are best served, and writes the best into their recipes."""
