"""The table of metrics that have OpenTelemetry's names of generative AI, as Prometheus writes those.

Dots are underscores, and the unit s is at the end. gen_ai.client.*, of semantic conventions 1.41.
"""

from __future__ import annotations

from trireme.observe.metric import Metric

__all__ = ["CLIENT_DURATION", "CLIENT_FIRST_CHUNK", "CLIENT_TOKENS", "GENAI"]

_WHOM = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")

CLIENT_TOKENS = Metric(
    "gen_ai_client_token_usage",
    "histogram",
    "tokens of each call of a model, gen_ai_token_type is input or output",
    (*_WHOM, "gen_ai_token_type"),
    # Each four times the one before, as the conventions have them.
    tuple(4.0**power for power in range(14)),
    unit="tokens",
    when="once a provider has counted tokens",
)
CLIENT_DURATION = Metric(
    "gen_ai_client_operation_duration_seconds",
    "histogram",
    "seconds of each call of a model, to the end of its answer; error_type is empty where it did not fail",
    (*_WHOM, "error_type"),
    tuple(0.01 * 2.0**power for power in range(14)),
    when="once a provider was asked",
)
CLIENT_FIRST_CHUNK = Metric(
    "gen_ai_client_operation_time_to_first_chunk_seconds",
    "histogram",
    "seconds from a streamed call to the first content of its answer",
    _WHOM,
    (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    when="once an answer was streamed",
)
GENAI = (CLIENT_TOKENS, CLIENT_DURATION, CLIENT_FIRST_CHUNK)
