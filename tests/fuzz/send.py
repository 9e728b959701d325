"""Sends one call and says what came back."""

import http.client
import socket
import time
from contextlib import suppress
from dataclasses import dataclass

import grpc
from tritonclient.grpc import service_pb2

from fuzz.calls import Call

# A request without an end for so long hangs, on two busy cores too.
HANG_SECONDS = 60.0
# Raw bytes may be the beginning of a request: their sender goes away after this.
BYTES_SECONDS = 0.3
MOST_READ = 50_000_000
OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))


@dataclass
class Reply:
    """What came back. errors: (code, text) of each; code is "" where none came with it.

    ended: whether the call came to an end by itself within HANG_SECONDS.
    refused: the connection could not be made or was cut, as when no server runs.
    """

    errors: list[tuple[str, str]]
    answers: int = 0
    ended: bool = True
    refused: str = ""
    seconds: float = 0.0


class Sender:
    """Sends to one server. One thread each: a sender holds a gRPC channel of its own."""

    def __init__(self, host: str, http_port: int, grpc_port: int) -> None:
        self._host, self._http_port, self._grpc_port = host, http_port, grpc_port
        self._channel = self._open()

    def _open(self) -> grpc.Channel:
        local = (("grpc.use_local_subchannel_pool", 1),)
        return grpc.insecure_channel(f"{self._host}:{self._grpc_port}", (*OPTIONS, *local))

    def close(self) -> None:
        self._channel.close()

    def reopen(self) -> None:
        """A new connection, without the back-off of one that failed."""
        self._channel.close()
        self._channel = self._open()

    def send(self, call: Call) -> Reply:
        """Blocks until the answer ends, or HANG_SECONDS."""
        began = time.monotonic()
        send = {"grpc": self._unary, "stream": self._stream, "http": self._http}.get(call.way, self._bytes)
        try:
            reply = send(call)
        except TimeoutError:
            reply = Reply([], ended=False)
        except (OSError, http.client.HTTPException) as error:
            reply = Reply([], refused=f"{type(error).__name__}: {error}")
        reply.seconds = time.monotonic() - began
        return reply

    def _unary(self, call: Call) -> Reply:
        ask = self._channel.unary_unary(call.path, lambda data: data, lambda data: data)
        try:
            ask(call.parts[0], timeout=HANG_SECONDS)
        except grpc.RpcError as error:
            return _failed(error, 0)
        return Reply([], answers=1)

    def _stream(self, call: Call) -> Reply:
        ask = self._channel.stream_stream(
            call.path, lambda data: data, service_pb2.ModelStreamInferResponse.FromString
        )
        errors: list[tuple[str, str]] = []
        answers = 0
        try:
            for response in ask(iter(call.parts), timeout=HANG_SECONDS, metadata=call.headers):
                answers += 1
                if response.error_message:
                    errors.append(("stream", response.error_message))
        except grpc.RpcError as error:
            reply = _failed(error, answers)
            reply.errors[:0] = errors
            return reply
        return Reply(errors, answers)

    def _http(self, call: Call) -> Reply:
        head = [f"{call.method} {call.path} HTTP/1.1", "Host: x", "Connection: close"]
        head += [f"{name}: {value}" for name, value in call.headers]
        if "Transfer-Encoding" not in dict(call.headers):
            head.append(f"Content-Length: {len(call.parts[0])}")
        with self._connect(self._http_port) as opened:
            # It may have answered before it has read all.
            with suppress(BrokenPipeError, ConnectionResetError):
                opened.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + call.parts[0])
            return self._read_http(opened, call.method)

    def _read_http(self, opened: socket.socket, method: str) -> Reply:
        answer = http.client.HTTPResponse(opened, method=method)
        answer.begin()
        text = answer.read(MOST_READ).decode(errors="replace")
        errors = []
        if answer.status >= 400:
            errors.append((str(answer.status), text))
        elif answer.headers.get_content_type() == "text/event-stream":
            errors += [("stream", line) for line in text.splitlines() if _is_error(line)]
        return Reply(errors, answers=1)

    def _bytes(self, call: Call) -> Reply:
        """Nothing is wrong with no answer: only what an answer says is looked at."""
        text = b""
        with self._connect(self._http_port if call.way == "bytes" else self._grpc_port) as opened:
            try:
                for part in call.parts:
                    opened.sendall(part)
                opened.settimeout(BYTES_SECONDS)
                while len(text) < 100_000 and (more := opened.recv(65536)):
                    text += more
            except OSError:
                pass
        return Reply([("bytes", text.decode(errors="replace"))] if call.way == "bytes" and text else [], 1)

    def _connect(self, port: int) -> socket.socket:
        return socket.create_connection((self._host, port), timeout=HANG_SECONDS)


def _is_error(line: str) -> bool:
    """Whether an event is an error; an output may have that name, too."""
    return line.startswith('data: {"error":') and "model_name" not in line


def _failed(error: grpc.RpcError, answers: int) -> Reply:
    code, text = error.code(), error.details() or ""
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return Reply([], answers, ended=False)
    if code is grpc.StatusCode.UNAVAILABLE and (
        "connect" in text or "Socket closed" in text or "GOAWAY" in text
    ):
        return Reply([], answers, refused=text)
    return Reply([(code.name, text)], answers)
