"""What Envoy adds to a call."""
