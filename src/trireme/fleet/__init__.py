"""Several tritonservers of one machine, an agent beside each, and Envoy in front of them."""
