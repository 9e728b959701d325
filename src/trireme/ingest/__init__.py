"""Load files, cut them into passages, embed and store them."""
