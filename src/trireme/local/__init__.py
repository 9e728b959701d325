"""Servers embedded on one machine, from wheels."""
