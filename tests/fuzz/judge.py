"""What is wrong with a reply."""

import json
import re
from pathlib import Path

from fuzz.calls import Call
from fuzz.send import Reply

CODES = "INVALID_ARG|NOT_FOUND|UNAVAILABLE|UNSUPPORTED|ALREADY_EXISTS|CANCELLED|INTERNAL"
CODE = re.compile(rf"\[({CODES})\] ")
# What only a look inside the server shows.
INSIDE = re.compile(
    r"Traceback|File \"|\bline \d+, in |0x[0-9a-f]{6,}|site-packages|/(?:root|home|tmp|usr|opt)/|/dev/shm"
    r"|triton_python_backend|\.py\b|\.cc:|\.so\b|std::|boost|<object|object at"
)
ROOT = str(Path(__file__).parents[2])
# Errors that tritonserver makes before a model sees the request. Its streams carry no code, and it calls some
# malformed requests internal errors: docs/errors.md says so.
UPSTREAM = re.compile(
    r"(in ensemble '[^']*', )?(\[request id: .*?\] )?("
    r"Request for unknown model|failed to get model version|out of bounds index|All input dimensions"
    r"|unexpected (inference (in|out)put|shape for input|explicit tensor|number of|size|total|'content'|deadlock)"
    r"|inference (input|request batch-size)|expected (number of|\d+)|input byte size mismatch|input '.*'.* "
    r"(already exists|batch size|has no shape)|incomplete string|contents field must not|unable to find data"
    r"|unable to (load|decode|set)|(Unable|failed|attempt) to |Unable to find shared|invalid value (type )?for '"
    r"|parameter key|class result not|invalid model version|string correlation ID"
    r"|'shared_memory.*' (can not|must) be|duplicate)",
    re.DOTALL,
)


def judge(call: Call, reply: Reply) -> list[str]:
    """Every fault of the reply, as a kind and a text; empty where it is as documented."""
    if reply.refused:
        # What is no HTTP gets no answer: the connection is closed.
        answers = call.way in ("grpc", "stream") or (call.way == "http" and call.method in ("GET", "POST"))
        return [f"refused: {reply.refused}"] if answers else []
    faults = [] if reply.ended else [f"hang: {reply.seconds:.0f} s"]
    for code, text in reply.errors:
        if INSIDE.search(text) or ROOT in text:
            faults.append(f"inside: {text[:400]}")
        if UPSTREAM.match(_plain(text)):
            continue
        if code in ("INTERNAL", "UNKNOWN", "500") or (code == "stream" and "[INTERNAL]" in text):
            faults.append(f"internal: {code} {text[:300]}")
        elif code == "stream" and not CODE.search(text):
            faults.append(f"no code: {text[:300]}")
        elif code.isdecimal() and not _has_error(text) and call.method != "HEAD":
            faults.append(f"no error: {code} {text[:200]}")
    return faults


def _plain(text: str) -> str:
    """The error alone where it is JSON, as over HTTP."""
    try:
        return str(json.loads(text.removeprefix("data: "))["error"])
    except (ValueError, KeyError, TypeError):
        return text


def _has_error(text: str) -> bool:
    try:
        return bool(json.loads(text.removeprefix("data: "))["error"])
    except (ValueError, KeyError, TypeError):
        return False
