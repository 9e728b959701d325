"""The vector store port and its implementations."""
