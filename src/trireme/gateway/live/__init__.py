"""Figures of now and of the last hour, sent to whoever watches: `GET /v1/live`."""
