"""What every backend shares: its configuration, one answer per request, metrics, readiness."""

from __future__ import annotations

import gc
import json
import re
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar

from trireme.errors import SettingError, TriremeError
from trireme.settings import read_settings
from trireme.triton.backends.instruments import Instrument, log_to
from trireme.triton.shared_memory import make_private
from trireme.triton.wire import write_code

R = TypeVar("R")
A = TypeVar("A")

READY_PERIOD_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """One model instance as Triton describes it. `device_id` is None on CPU.

    warms_up: whether the configuration asks for a warm-up before the model is ready.
    """

    name: str
    repository: Path
    version_dir: Path
    inputs: frozenset[str]
    parameters: dict[str, str]
    device_id: int | None
    warms_up: bool = False
    instance: str = ""

    def read_int(self, key: str) -> int:
        """A whole number from the configuration's parameters; SettingError names a missing or bad one."""
        raw = self.read_text(key)
        if not raw.isdecimal():
            raise SettingError(f"parameter {key} of model {self.name} must be a whole number, got {raw!r}")
        return int(raw)

    def read_number(self, key: str) -> float:
        """A number of at least 0 from the parameters; SettingError names a missing or bad one."""
        raw = self.read_text(key)
        if not re.fullmatch(r"[0-9]+(\.[0-9]+)?(e-?[0-9]+)?", raw):
            raise SettingError(f"parameter {key} of model {self.name} must be a number, got {raw!r}")
        return float(raw)

    def read_flag(self, key: str) -> bool:
        """true or false from the parameters; SettingError names a missing or bad one."""
        raw = self.read_text(key)
        if raw not in ("true", "false"):
            raise SettingError(f"parameter {key} of model {self.name} must be true or false, got {raw!r}")
        return raw == "true"

    def read_text(self, key: str) -> str:
        """A parameter as text; SettingError where it is missing."""
        if key not in self.parameters:
            raise SettingError(f"config.pbtxt of model {self.name} lacks the parameter {key}; write it again")
        return self.parameters[key]


def read_model_config(args: dict[str, str], known: frozenset[str]) -> ModelConfig:
    """The arguments of `initialize`. A parameter outside `known` raises SettingError naming it."""
    config = json.loads(args["model_config"])
    parameters = {key: value["string_value"] for key, value in config.get("parameters", {}).items()}
    model_dir = Path(args["model_repository"])
    for key in parameters:
        if key not in known:
            raise SettingError(f"unknown parameter {key} in config.pbtxt of model {args['model_name']}")
    return ModelConfig(
        name=args["model_name"],
        repository=model_dir.parent,
        version_dir=model_dir / args["model_version"],
        inputs=frozenset(tensor["name"] for tensor in config["input"]),
        parameters=parameters,
        device_id=int(args["model_instance_device_id"]) if args["model_instance_kind"] == "GPU" else None,
        warms_up=bool(config.get("model_warmup")),
        instance=args.get("model_instance_name", args["model_name"]),
    )


class BackendModel:
    """Base of the classes that Triton's Python stub drives. Subclasses say what to load and how to answer."""

    known_parameters: ClassVar[frozenset[str]] = frozenset()

    def initialize(self, args: dict[str, str]) -> None:
        """Load the model. Raises TritonModelException with one sentence; the model is then not served."""
        # Exists only inside the stub that Triton starts.
        import triton_python_backend_utils as pb

        self.pb: Any = pb
        self._metric_families: dict[str, Any] = {}
        self._instruments: list[Instrument] = []
        log_to(pb.Logger)
        make_private()
        self._failures: dict[str, Any] = {}
        self._failures_lock = threading.Lock()
        try:
            self.config = read_model_config(args, self.known_parameters)
            self.server_restarts = read_settings().server_restarts
            self.load(self.config)
        except TriremeError as error:
            self._release_metrics()
            raise pb.TritonModelException(str(error)) from None
        self._closed = threading.Event()
        self._watcher = threading.Thread(target=self._watch_readiness, daemon=True)
        self._watcher.start()

    def load(self, config: ModelConfig) -> None:
        """Prepare to answer. Raises TriremeError."""
        raise TriremeError(f"{type(self).__name__} does not say how to load")

    def is_ready(self) -> bool:
        """Whether a request would be answered now. Never raises. Triton 26.01 and later asks it."""
        return True

    def close(self) -> None:
        """Give back what `load` took."""

    def finalize(self) -> None:
        """Called by Triton once, at unload."""
        self._closed.set()
        self._watcher.join(timeout=READY_PERIOD_SECONDS * 2)
        self.close()
        self._release_metrics()
        # What is freed after this call lies in shared memory that the stub no longer has: it crashes then.
        gc.collect()

    def counter(self, name: str, description: str, **labels: str) -> Any:
        """A Prometheus counter labelled with this model's name, and `labels`."""
        return self._metric(name, description, self.pb.MetricFamily.COUNTER, labels)

    def gauge(self, name: str, description: str, **labels: str) -> Any:
        """A Prometheus gauge labelled with this model's name, and `labels`."""
        return self._metric(name, description, self.pb.MetricFamily.GAUGE, labels)

    def histogram(self, name: str, description: str, buckets: Sequence[float]) -> Any:
        """A Prometheus histogram labelled with this model's name; `buckets` are upper bounds, ascending."""
        return self._metric(name, description, self.pb.MetricFamily.HISTOGRAM, buckets=list(buckets))

    def answer_all(
        self,
        requests: Sequence[Any],
        read: Callable[[Any], R],
        compute: Callable[[list[R]], list[A | TriremeError]],
        write: Callable[[A], list[Any]],
    ) -> list[Any]:
        """One response per request, in order: tensors, or the error of that request alone. Never raises."""
        answers: list[A | TriremeError | None] = [None] * len(requests)
        readable: list[tuple[int, R]] = []
        for position, request in enumerate(requests):
            try:
                readable.append((position, read(request)))
            except TriremeError as error:
                answers[position] = error
            except Exception:
                answers[position] = self._unexpected()
        try:
            computed: list[A | TriremeError] = compute([value for _, value in readable]) if readable else []
        except TriremeError as error:
            computed = [error] * len(readable)
        except Exception:
            computed = [self._unexpected()] * len(readable)
        for (position, _), answer in zip(readable, computed, strict=True):
            answers[position] = answer
        return [self._respond(one, answer, write) for one, answer in zip(requests, answers, strict=True)]

    def answer_later(
        self,
        requests: Sequence[Any],
        read: Callable[[Any], R],
        submit: Callable[[list[R], Callable[[int, A | Exception], None]], None],
        write: Callable[[A], list[Any]],
    ) -> None:
        """Sends one response per request when it is there, from whatever thread has it. Never raises.

        submit: takes what was read and calls back once for each with its position and answer, or what went
        wrong. Triton hands over further requests meanwhile: its batches do not bound what runs together.
        """
        readable: list[R] = []
        senders: list[Callable[[A | Exception], None]] = []
        for request in requests:
            send = self._sender(request, write)
            try:
                readable.append(read(request))
            except Exception as error:
                send(error)
                continue
            senders.append(send)
        if not readable:
            return
        answered: set[int] = set()

        def answer(position: int, found: A | Exception) -> None:
            answered.add(position)
            senders[position](found)

        try:
            submit(readable, answer)
        except Exception as error:
            for position in range(len(readable)):
                if position not in answered:
                    senders[position](error)

    def took(self, seconds: float) -> None:
        """Is told how long each request of `answer_later` took, up to its response."""

    def _sender(self, request: Any, write: Callable[[A], list[Any]]) -> Callable[[A | Exception], None]:
        """Sends the one response of `request`. What it is given may be an exception, of any kind."""
        sender = request.get_response_sender()
        began = time.monotonic()

        def send(found: A | Exception) -> None:
            error = found if isinstance(found, Exception) else None
            if not isinstance(found, Exception):
                try:
                    response = self.pb.InferenceResponse(output_tensors=write(found))
                except Exception as failure:
                    error = failure
            if error is not None:
                typed = error if isinstance(error, TriremeError) else self._unexpected(error)
                response = self.error_response(typed)
                self._count_failure(typed.code)
            self.took(time.monotonic() - began)
            try:
                sender.send(response, flags=self.pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
            except Exception:
                # Nobody is left to tell; the thread that brought the answer has others to bring.
                self._unexpected()

        return send

    def _respond(self, request: Any, answer: Any, write: Callable[[Any], list[Any]]) -> Any:
        if not isinstance(answer, TriremeError):
            try:
                return self.pb.InferenceResponse(output_tensors=write(answer))
            except TriremeError as error:
                answer = error
            except Exception:
                answer = self._unexpected()
        return self.error_response(answer)

    def error_response(self, error: TriremeError) -> Any:
        """A response that carries `error` and no tensors.

        Its text begins with the code: Triton's gRPC streams, its ensembles' callers and BLS carry nothing else, and
        no model can see which of them asks.
        """
        code = getattr(self.pb.TritonError, error.code)
        # Its frames hold the request, which holds shared memory, in a circle that only the collector opens.
        error.__traceback__ = error.__context__ = error.__cause__ = None
        return self.pb.InferenceResponse(
            output_tensors=[], error=self.pb.TritonError(write_code(error), code)
        )

    def _count_failure(self, code: str) -> None:
        """Triton counts what is answered later as a success, whatever the answer."""
        with self._failures_lock:
            if code not in self._failures:
                name, what = "trireme_request_failures_total", "Requests answered with an error, by its code"
                self._failures[code] = self.counter(name, what, code=code)
            self._failures[code].increment(1)

    def _unexpected(self, error: Exception | None = None) -> TriremeError:
        """Logs `error`, or the one being handled; the error for the client, which says nothing of it."""
        trace = "".join(traceback.format_exception(error)) if error else traceback.format_exc()
        self.pb.Logger.log_error(f"model {self.config.name}: {trace}")
        return TriremeError(f"internal error in model {self.config.name}; the server's log has the details")

    def _metric(
        self,
        name: str,
        description: str,
        kind: Any,
        labels: Mapping[str, str] = MappingProxyType({}),
        **options: Any,
    ) -> Any:
        # Triton deletes a family with its last Python reference, and its metrics die with it.
        if name not in self._metric_families:
            family = self.pb.MetricFamily(name=name, description=description, kind=kind)
            self._metric_families[name] = family
        metric = self._metric_families[name].Metric(labels={"model": self.config.name, **labels}, **options)
        self._instruments.append(Instrument(metric))
        return self._instruments[-1]

    def _release_metrics(self) -> None:
        # The stub deletes them at the server; one that outlives it ends its process with a segmentation fault.
        for instrument in self._instruments:
            instrument.release()
        self._instruments.clear()
        self._metric_families.clear()

    def _watch_readiness(self) -> None:
        # Servers before 26.01 never call is_ready: gauges carry its answer to Prometheus and the CLI.
        answers = "1 when the model's session, files and database answer, else 0"
        ready = self.gauge("trireme_model_ready", answers, instance=self.config.instance)
        # Of a process that is gone the server keeps the last word: its age tells.
        found_out = "When trireme_model_ready was found out, Unix time"
        checked = self.gauge("trireme_model_checked_seconds", found_out, instance=self.config.instance)
        restarts = self.gauge(
            "trireme_server_restarts", "How often trireme serve has started the server again"
        )
        restarts.set(float(self.server_restarts))
        while True:
            ready.set(1.0 if self.is_ready() else 0.0)
            checked.set(time.time())
            if self._closed.wait(READY_PERIOD_SECONDS):
                return


def join_rows(rows: Sequence[A | TriremeError]) -> list[A] | TriremeError:
    """A request's rows as one answer; its first bad row fails it, and is named where there are several."""
    joined: list[A] = []
    for position, row in enumerate(rows):
        if isinstance(row, TriremeError):
            return row if len(rows) == 1 else type(row)(f"row {position}: {row}")
        joined.append(row)
    return joined


def submit_rows(
    requests: Sequence[Sequence[R]],
    answer: Callable[[int, Any], None],
    submit: Callable[[list[R], Callable[[int, Any], None]], None],
) -> None:
    """Submits the rows of all requests together; `answer` gets each request's position and its rows' answers.

    submit: calls back once for each row with its position and answer, or what went wrong.
    """
    joins = [RowJoin(len(rows), partial(answer, position)) for position, rows in enumerate(requests)]
    places = [(join, row) for join, rows in zip(joins, requests, strict=True) for row in range(len(rows))]

    def done(place: int, found: Any) -> None:
        join, row = places[place]
        join.put(row, found)

    submit([row for rows in requests for row in rows], done)


class RowJoin:
    """The rows of one request whose answers come one by one, from several threads."""

    def __init__(self, count: int, done: Callable[[Any], None]) -> None:
        """done: is called once, by the thread that brings the last row, with all rows or what went wrong."""
        self._rows: list[Any] = [None] * count
        self._left = count
        self._done = done
        self._lock = threading.Lock()

    def put(self, position: int, row: Any) -> None:
        """The answer of one row: an exception where it failed."""
        with self._lock:
            self._rows[position] = row
            self._left -= 1
            is_last = self._left == 0
        if is_last:
            broken = [row for row in self._rows if isinstance(row, Exception)]
            unexpected = [error for error in broken if not isinstance(error, TriremeError)]
            self._done(unexpected[0] if unexpected else join_rows(self._rows))
