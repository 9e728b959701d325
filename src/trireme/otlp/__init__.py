"""OTLP over HTTP: spans to a collector."""
