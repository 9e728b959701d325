"""One reader a format: an open file in, its title and the parts of its text out."""
