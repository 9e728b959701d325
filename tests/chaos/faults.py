"""What is done to the stack: each fault begins, lasts, and ends; whether it could be done is returned."""

import signal

import psycopg

from chaos.stack import ChaosStack, fill, pause, signal_to
from trireme.errors import TriremeError
from trireme.triton.client import TritonClient

POISON = (
    {"top_p": 1e-300},
    {"repetition_penalty": 1e-46},
    {"temperature": 5e-324, "top_k": 2**31},
    {"min_p": 1, "temperature": 100},
    {"stop_token_ids": [2**31 - 1]},
    {"max_tokens": 10**9, "stop": ["\x00"]},
    {"seed": 2**63 - 1, "frequency_penalty": -2},
)


class Faults:
    """All that can be done to one stack. `random` chooses what and whom."""

    def __init__(self, stack: ChaosStack, random):
        self._stack, self._random = stack, random
        self.kinds = {
            "kill stub": lambda: self._signal("stub", signal.SIGKILL),
            "kill engine": lambda: self._signal("engine", signal.SIGKILL),
            "kill tritonserver": lambda: self._signal("tritonserver", signal.SIGKILL),
            "kill worker": lambda: self._signal("worker", signal.SIGKILL),
            "kill postgres": lambda: self._signal("postgres", signal.SIGKILL),
            "kill a backend of postgres": lambda: self._signal("backend", signal.SIGKILL),
            "stop stub": lambda: self._stand_still("stub"),
            "stop engine": lambda: self._stand_still("engine"),
            "stop tritonserver": lambda: self._stand_still("tritonserver"),
            "stop worker": lambda: self._stand_still("worker"),
            "stop postgres": lambda: self._stand_still("postgres"),
            "poison": self._poison,
            "refuse connections": self._refuse_connections,
        }
        if stack.has_own_disks:
            self.kinds["full shared memory"] = lambda: self._fill(stack.shm_dir, 256 << 10)
            self.kinds["full disk"] = lambda: self._fill(stack.data_dir, 0)

    def do(self, kind: str) -> bool:
        """Blocks while it lasts. False where there was nobody to do it to."""
        return bool(self.kinds[kind]())

    def _signal(self, target: str, number: int) -> bool:
        return signal_to(self._stack.find(target, self._random.choice), number)

    def _stand_still(self, target: str) -> bool:
        process = self._stack.find(target, self._random.choice)
        if not signal_to(process, signal.SIGSTOP):
            return False
        pause(self._random.uniform(0.5, 4.0))
        # The supervisor may have ended it meanwhile.
        signal_to(process, signal.SIGCONT)
        return True

    def _poison(self) -> bool:
        url = self._stack.settings.grpc_url
        for model in ("llm", "rag"):
            for sampling in self._random.sample(POISON, 3):
                try:
                    with TritonClient(url, timeout=30) as client:
                        if model == "llm":
                            list(client.generate("x", sampling={"max_tokens": 3, **sampling}))
                        else:
                            parts = client.ask(
                                "oars", mode="generative", sampling={"max_tokens": 3, **sampling}
                            )
                            next(parts)
                            parts.close()
                except TriremeError:
                    continue
        return True

    def _refuse_connections(self) -> bool:
        """New connections find no socket, and those that are there are ended."""
        url = self._stack.database_url
        if url is None:
            return False
        socket = _socket_of(url)
        hidden = socket.with_name("hidden")
        try:
            with psycopg.connect(url, autocommit=True, connect_timeout=5) as database:
                socket.rename(hidden)
                database.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
                )
        except (psycopg.Error, OSError):
            return hidden.exists() and _bring_back(hidden, socket)
        pause(self._random.uniform(1.0, 5.0))
        return _bring_back(hidden, socket)

    def _fill(self, folder, stays_free: int) -> bool:
        try:
            path = fill(folder, stays_free)
        except OSError:
            path = folder / "chaos.fill"
        pause(self._random.uniform(1.0, 5.0))
        path.unlink(missing_ok=True)
        return True


def _bring_back(hidden, socket) -> bool:
    # A PostgreSQL that was started anew has made its own.
    if hidden.exists() and not socket.exists():
        hidden.rename(socket)
    return True


def _socket_of(url: str):
    from pathlib import Path
    from urllib.parse import unquote

    return Path(unquote(url.rpartition("host=")[2])) / ".s.PGSQL.5432"
