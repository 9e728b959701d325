"""Models of gateway.toml that try cheap steps first: which step may answer, and whether its answer is kept."""
