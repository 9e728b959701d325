"""Another embedder for a collection: its vectors are made, compared with the old ones, then searched."""
