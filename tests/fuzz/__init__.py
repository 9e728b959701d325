"""A fuzzer with a seed: requests of every kind to a running server, and what its answers may be."""
