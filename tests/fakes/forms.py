"""Bodies of multipart forms, as clients send them."""

import asyncio

BOUNDARY = "b0undary"
FORM_TYPE = f"multipart/form-data; boundary={BOUNDARY}"


def part(name, value, filename=None, content_type=None, more=()):
    """One part, with its headers."""
    disposition = f'form-data; name="{name}"' + (f'; filename="{filename}"' if filename is not None else "")
    lines = [f"Content-Disposition: {disposition}", *more]
    if content_type:
        lines.append(f"Content-Type: {content_type}")
    head = "".join(f"{line}\r\n" for line in lines)
    return head.encode() + b"\r\n" + (value if isinstance(value, bytes) else value.encode())


def form(*parts, end=True):
    """The body of a form of `parts`; without `end` it lacks its last boundary."""
    body = b"".join(f"--{BOUNDARY}\r\n".encode() + one + b"\r\n" for one in parts)
    return body + (f"--{BOUNDARY}--\r\n".encode() if end else b"")


def receive_of(body, sizes=65_536, *, gone=False):
    """ASGI's receive over `body` in pieces of `sizes` bytes; gone: the client closes in place of the last piece."""
    pieces = [body[n : n + sizes] for n in range(0, len(body), sizes)] or [b""]
    messages = [
        {"type": "http.request", "body": piece, "more_body": n < len(pieces)}
        for n, piece in enumerate(pieces, 1)
    ]
    if gone:
        messages[-1] = {"type": "http.disconnect"}
    coming = iter(messages)

    async def receive():
        message = next(coming, None)
        if message is None:
            # The body is over; the client stays, and waits for its answer.
            await asyncio.Event().wait()
        return message

    return receive
