"""Recipes, manifests, config.pbtxt and the model repository on disk."""
