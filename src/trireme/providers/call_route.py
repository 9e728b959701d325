"""What balancers in front of our own servers are told of the calls that are made for a request."""

from trireme.triton.call_route import CallRoute, route_calls

__all__ = ["CallRoute", "route_calls"]
