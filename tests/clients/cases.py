"""Cases of one client: functions that `run` calls one by one, each in the client's own environment.

A target that failed five times rests for a while: each client has faults of its own.

The gateway comes from the environment: GATEWAY_URL, and the keys GATEWAY_KEY, GATEWAY_LIMITED_KEY (one request a
minute) and GATEWAY_NARROW_KEY (for the endpoint `models` alone).
"""

import json
import os
import sys
import traceback

URL = os.environ.get("GATEWAY_URL", "")
KEY = os.environ.get("GATEWAY_KEY", "")
LIMITED_KEY = os.environ.get("GATEWAY_LIMITED_KEY", "")
NARROW_KEY = os.environ.get("GATEWAY_NARROW_KEY", "")
# What the corpus of the tests answers, and the document that says so.
QUESTION = "what does the dynamic batcher wait for?"
SOURCE = "batching.md"
TOOL = {
    "type": "object",
    "properties": {"text": {"type": "string"}},
    "required": ["text"],
}
_CASES = []


def case(endpoint, form, name):
    """A case of the table: `form` is one of whole, streamed, tools, error; `name` says what the client got."""

    def keep(run_it):
        _CASES.append(((endpoint, form, name), run_it))
        return run_it

    return keep


def same(got, wanted):
    """Fails with both where they differ."""
    assert got == wanted, f"got {got!r}, wanted {wanted!r}"


def raises(kind, act, *parts):
    """The error that `act()` raises, of this kind and with all of `parts` in its text."""
    try:
        act()
    except kind as error:
        for part in parts:
            assert part in str(error), f"{part!r} is not in {error}"
        return error
    raise AssertionError(f"no {kind.__name__}")


def until_refused(kind, act):
    """The error of the first call over a limit of one a minute. A minute may end between two calls."""
    for _ in range(3):
        try:
            act()
        except kind as error:
            return error
    raise AssertionError(f"no {kind.__name__} after three calls")


def run(**versions):
    """Print a line of JSON for each case, the first one with the versions of what is used."""
    print(json.dumps({"versions": versions}))
    for row, run_it in _CASES:
        said = ""
        try:
            run_it()
        except Exception:
            said = traceback.format_exc()
        print(json.dumps({"case": row, "ok": not said, "said": said}))
        sys.stdout.flush()
