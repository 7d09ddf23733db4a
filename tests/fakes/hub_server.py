"""How requests reach the local Hub of the tests, and the faults that befall them on the way."""

import contextlib
import json
import re
import socket
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import sleep
from typing import Any, Literal
from urllib.parse import urlsplit

# Where a fault cuts the connection: nothing read, half of the request's body read, request performed but not answered,
# half of the answer's body sent. The client sees a reset (RST), as from a proxy that dies.
Cut = Literal["before", "body", "after", "answer"]


@dataclass
class Fault:
    """What befalls the requests whose method matches fully and whose path and query contain a match of `path`.

    `skip` requests pass first, then `times` are hit (None: while it is `active`). For each, `call` is run (say, to
    commit as somebody else, or to kill the client). Then it is answered with `status` and `retry_after` seconds and not
    performed, or the connection is `cut`, or else it is performed.
    """

    method: str
    path: str
    times: int | None = 1
    skip: int = 0
    status: int | None = None
    retry_after: int | None = None
    cut: Cut | None = None
    call: Callable[[], object] = lambda: None
    hits: int = 0
    active: bool = True

    def takes(self, method: str, path: str) -> bool:
        if not (self.active and re.fullmatch(self.method, method) and re.search(self.path, path)):
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.hits += 1
        self.active = self.hits != self.times
        return True


@dataclass(frozen=True)
class Logged:
    """A request in the log, written just before it is answered; its token is not kept."""

    path: str  # with the query; a whole URL for requests to other hosts
    status: int | None  # None: the connection was cut, the client saw no status


@dataclass
class Answer:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


class Refusal(Exception):
    """An answer that says what is wrong, in the Hub's headers."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.answer = reply({"error": message}, status)
        self.answer.headers |= {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})


def reply(value: object, status: int = 200) -> Answer:
    return Answer(status, json.dumps(value).encode(), {"Content-Type": "application/json"})


class _Handler(BaseHTTPRequestHandler):
    """Reads a request, lets faults befall it, has it performed, logs and answers it."""

    protocol_version = "HTTP/1.1"  # connections stay open, as on the Hub
    disable_nagle_algorithm = True
    server: "HubServer"  # pyright: ignore[reportIncompatibleVariableOverride]

    def _serve(self) -> None:
        fault = self.server.hub.fault_of(self.command, self.path) or Fault("", "")
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read({"before": 0, "body": length // 2}.get(str(fault.cut), length))
        if fault.cut in ("before", "body") or len(body) < length:  # the latter: the client died while it sent
            return self._reset()
        fault.call()
        answer = self._answer(fault, body)
        if fault.cut == "after":
            return self._reset()
        if fault.cut != "answer":
            self.server.hub.requests.append(Logged(self.path, answer.status))
        self.send_response(answer.status)
        for name, value in {**answer.headers, "Content-Length": str(len(answer.body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body[: len(answer.body) // 2] if fault.cut else answer.body)
        if fault.cut:
            sleep(0.05)  # a reset discards what the client has not read yet
            self._reset()

    do_GET = do_HEAD = do_POST = do_PUT = do_CONNECT = _serve

    def _answer(self, fault: Fault, body: bytes) -> Answer:
        if fault.status:
            answer = Refusal(fault.status, "A fault of the tests").answer
            answer.headers |= {"Retry-After": str(fault.retry_after)} if fault.retry_after else {}
            return answer
        if self.path.startswith("/"):
            return self.server.hub.perform(self.command, self.path, self.headers, body)
        if (urlsplit(self.path).hostname or "").startswith("datasets-server."):
            return reply({"error": "The local Hub has no viewer"}, 404)
        return reply({"error": f"No network in these tests: {self.path}"}, 403)

    def _reset(self) -> None:
        self.server.hub.requests.append(Logged(self.path, None))
        # Closing with a linger time of 0 sends RST instead of FIN.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Silent: `LocalHub.requests` is the log."""


class HubServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # clients keep connections open: waiting for them would be for ever
    request_queue_size = 128

    def __init__(self, hub: Any) -> None:
        self.hub = hub
        self.connections: list[socket.socket] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        self.connections.append(request)
        super().finish_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is not reported; an error of the local Hub itself is printed."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    def server_close(self) -> None:
        super().server_close()
        for each in self.connections:
            with contextlib.suppress(OSError):  # closed already
                each.shutdown(socket.SHUT_RDWR)
