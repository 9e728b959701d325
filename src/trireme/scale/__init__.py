"""More than one server: the values of a deployment, and what runs it: Envoy in front of several tritonservers."""
