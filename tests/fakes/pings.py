"""A region's balancer as the controller sees it: answers pings when it is told to, on connections that are kept."""

import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from trireme.scale.near_routes import PING


class Pings:
    """`delay`: seconds before each answer. status, body: of it. `answer.clear()` holds answers back."""

    def __init__(self, context=None, port=0):
        self.delay, self.status, self.closes, self.body = 0.0, 200, False, b""
        self.answer = threading.Event()
        self.answer.set()
        self.connections = self.asked = 0
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self):
                fake.connections += 1
                super().setup()

            def do_GET(self):
                fake.asked += 1
                fake.answer.wait()
                time.sleep(fake.delay)
                # Who has read the header may change it for the next answer.
                body = fake.body
                self.send_response(fake.status if self.path == PING else 404)
                self.send_header("content-length", str(len(body)))
                if fake.closes:
                    self.send_header("connection", "close")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

            def __init__(self, *arguments):
                self.open = []
                super().__init__(*arguments)

            def get_request(self):
                plain, address = super().get_request()
                if context is not None:
                    plain = context.wrap_socket(plain, server_side=True)
                self.open.append(plain)
                return plain, address

            def handle_error(self, *_):
                pass

        self._server = Server(("127.0.0.1", port), Handler)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def cut(self):
        """Closes the connections that it has."""
        for one in self._server.open:
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def close(self):
        """Nobody listens there any more."""
        self.answer.set()
        self._server.shutdown()
        self._server.server_close()
        self.cut()
        self._thread.join()
