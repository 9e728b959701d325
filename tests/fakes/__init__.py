"""Fakes that unit tests use; the contract suites run the stores and queues among them beside the real ones."""
