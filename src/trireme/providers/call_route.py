"""What balancers in front of our own servers are told of the calls that are made for a request."""

from trireme.triton.call_route import CallRoute, keep_calls_near, route_calls

__all__ = ["CallRoute", "keep_calls_near", "route_calls"]
