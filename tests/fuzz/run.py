"""Drives the fuzzer: several requests in flight, canaries between them, eyes on the processes."""

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from fuzz.calls import Call
from fuzz.canaries import Canaries
from fuzz.judge import judge
from fuzz.send import Sender
from fuzz.watch import Watch

IN_FLIGHT = 6
RECOVERY_SECONDS = 60.0


@dataclass
class Finding:
    """number: of the request; -1 for what belongs to none. what: way and model. beside: what was in flight."""

    number: int
    fault: str
    what: str = ""
    note: str = ""
    beside: tuple[int, ...] = ()

    @property
    def kind(self) -> str:
        """The fault without what differs between findings of one kind."""
        return f"{self.what}: " + re.sub(r"'[^']*'|\"[^\"]*\"|0x[0-9a-f]+|-?\d+", "_", self.fault)[:160]


@dataclass
class Report:
    """sent: how many of each way. memory: MiB of each process before and after."""

    sent: Counter = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    memory: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    slowest: list[tuple[float, int]] = field(default_factory=list)

    def describe(self, seed: int) -> str:
        """What was sent and found, a line for each kind with its first request, and what the memory did."""
        lines = [f"seed {seed}: {dict(self.sent)} in {self.seconds:.0f} s"]
        for kind, count in Counter(finding.kind for finding in self.findings).most_common():
            first = next(finding for finding in self.findings if finding.kind == kind)
            lines.append(
                f"{count} x {kind} | first: {first.number} {first.note}: {first.fault}; with {first.beside}"
            )
        before, after = self.memory[0], self.memory[-1]
        grown = {name: f"{before.get(name, 0):.0f} to {size:.0f}" for name, size in after.items()}
        return "\n".join([*lines, f"slowest: {self.slowest[-3:]}", f"MiB: {grown}"])


class Run:
    """One run against `server`, whose host and ports stay when it is started again.

    pid: the process id of tritonserver now. is_ready: whether it serves.
    """

    def __init__(
        self, host: str, http_port: int, grpc_port: int, pid: Callable[[], int], is_ready: Callable[[], bool]
    ) -> None:
        self._place = (host, http_port, grpc_port)
        self._pid, self._is_ready = pid, is_ready
        self._watch = Watch(pid())
        self._lock = threading.Lock()
        self._in_flight: dict[int, Call] = {}
        self._local = threading.local()
        self._senders: list[Sender] = []
        self._ended = threading.Event()
        self.report = Report()

    def run(self, calls: Iterable[tuple[int, Call]], in_flight: int = IN_FLIGHT) -> Report:
        """Sends every call; blocks until all have ended."""
        began = time.monotonic()
        self.report.memory.append(self._watch.memory())
        canaries = threading.Thread(target=self._ask_canaries)
        watching = threading.Thread(target=self._look)
        canaries.start()
        watching.start()
        places = threading.BoundedSemaphore(in_flight * 2)
        with ThreadPoolExecutor(in_flight) as pool:
            for number, call in calls:
                places.acquire()
                pool.submit(self._send, number, call).add_done_callback(lambda _: places.release())
        self._ended.set()
        canaries.join()
        watching.join()
        for sender in self._senders:
            sender.close()
        self.report.memory.append(self._watch.memory())
        self.report.seconds = time.monotonic() - began
        return self.report

    def _send(self, number: int, call: Call) -> None:
        if not hasattr(self._local, "sender"):
            self._local.sender = Sender(*self._place)
            self._senders.append(self._local.sender)
        with self._lock:
            self._in_flight[number] = call
        reply = self._local.sender.send(call)
        with self._lock:
            beside = tuple(self._in_flight)
            del self._in_flight[number]
            self.report.sent[call.way] += 1
            self.report.slowest = sorted([*self.report.slowest, (reply.seconds, number)])[-10:]
            for fault in judge(call, reply):
                self.report.findings.append(
                    Finding(number, fault, f"{call.way} {call.model}", call.note, beside)
                )
        if reply.refused:
            self._wait_until_ready()
            self._local.sender.reopen()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + RECOVERY_SECONDS
        while not self._is_ready() and time.monotonic() < deadline:
            time.sleep(0.1)

    def _look(self) -> None:
        """Looks for processes that end, until the run does."""
        is_last = False
        while not is_last:
            is_last = self._ended.wait(0.2)
            if self._pid() != self._watch.pid or not self._watch.processes():
                self._note(f"crash: tritonserver {self._watch.pid}")
                self._wait_until_ready()
                self._watch = Watch(self._pid())
                continue
            for name in self._watch.ended():
                self._note(f"crash: {name}")

    def _note(self, fault: str) -> None:
        with self._lock:
            self.report.findings.append(Finding(-1, fault, beside=tuple(self._in_flight)))

    def _ask_canaries(self) -> None:
        canaries = Canaries(*self._place)
        while not self._ended.wait(0.3):
            if self._is_ready():
                for wrong in canaries.ask():
                    self._note(f"canary {wrong}")
        canaries.close()
