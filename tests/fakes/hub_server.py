"""How requests reach the local Hub of the tests, and the faults that befall them on the way."""

import json
import re
import socket
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import sleep
from typing import Any, Literal, Protocol
from urllib.parse import urlsplit

# Where a fault cuts the connection: nothing read, half of the request's body read, request performed but not answered,
# half of the answer's body sent. The client sees a reset (RST), as from a proxy that dies.
Cut = Literal["before", "body", "after", "answer"]


@dataclass
class Fault:
    """What befalls the requests that match; see `LocalHub.fault`."""

    method: str
    path: str
    times: int | None
    skip: int
    status: int | None
    retry_after: int | None
    cut: Cut | None
    call: Callable[[], object] | None
    hits: int = 0
    active: bool = True

    def off(self) -> None:
        self.active = False

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
    """A request as the log keeps it, written just before it is answered; its token is not kept."""

    method: str
    path: str  # with the query; a whole URL for requests to other hosts
    status: int | None  # None: the connection was cut, the client saw no status


@dataclass
class Answer:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


class Refusal(Exception):
    """An answer that says no: the Hub's way to say what is wrong."""

    def __init__(self, status: int, message: str, code: str | None = None, **headers: str) -> None:
        super().__init__(message)
        named = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {}) | headers
        self.answer = reply({"error": message}, status, **named)


def reply(value: object, status: int = 200, **headers: str) -> Answer:
    body = json.dumps(value, default=str)  # cards hold dates, which JSON does not know
    return Answer(status, body.encode(), {"Content-Type": "application/json", **headers})


class Hub(Protocol):
    """What the server needs of a Hub."""

    def fault_of(self, method: str, path: str) -> Fault | None: ...

    def perform(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer: ...

    def log(self, entry: Logged) -> None: ...


class _Cut(Exception):
    """The connection is to be cut now."""


class _Handler(BaseHTTPRequestHandler):
    """Reads a request, lets faults befall it, has it performed, logs and answers it."""

    protocol_version = "HTTP/1.1"  # connections stay open, as on the Hub
    disable_nagle_algorithm = True
    server: "HubServer"  # pyright: ignore[reportIncompatibleVariableOverride]

    def _serve(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        fault = self.server.hub.fault_of(self.command, self.path)
        cut = fault.cut if fault else None
        try:
            body = self._body(int(headers.get("content-length", "0")), cut)
            if fault and fault.call:
                fault.call()
            answer = _stand_in(fault) if fault and fault.status else self._answer(headers, body)
            if cut == "after":
                raise _Cut
        except _Cut:
            self._log(None)
            return self._reset()
        self._log(None if cut else answer.status)
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body[: len(answer.body) // 2] if cut else answer.body)
        if cut:
            self.wfile.flush()
            sleep(0.05)  # a reset discards what the client has not read yet
            self._reset()

    do_GET = do_HEAD = do_POST = do_PUT = do_CONNECT = _serve

    def _body(self, length: int, cut: Cut | None) -> bytes:
        if cut == "before":
            raise _Cut
        body = self.rfile.read(length // 2 if cut == "body" else length)
        if cut == "body" or len(body) < length:  # the latter: the client died while it sent, nothing happens
            raise _Cut
        return body

    def _answer(self, headers: dict[str, str], body: bytes) -> Answer:
        if self.path.startswith("/"):
            return self.server.hub.perform(self.command, self.path, headers, body)
        if (urlsplit(self.path).hostname or "").startswith("datasets-server."):
            return reply({"error": "The local Hub has no viewer"}, 404)
        return reply({"error": f"No network in these tests: {self.path}"}, 403)

    def _log(self, status: int | None) -> None:
        self.server.hub.log(Logged(self.command, self.path, status))

    def _reset(self) -> None:
        # Closing with a linger time of 0 sends RST in place of FIN.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.server.reset.add(self.connection)

    def log_message(self, format: str, *args: object) -> None:
        """Silent: `LocalHub.requests` is the log."""


def _stand_in(fault: Fault) -> Answer:
    answer = Refusal(fault.status or 500, "A fault of the tests").answer
    if fault.retry_after is not None:
        answer.headers["Retry-After"] = str(fault.retry_after)
    return answer


class HubServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # clients keep connections open: waiting for them would be for ever
    request_queue_size = 128

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.open: set[socket.socket] = set()
        self.reset: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), _Handler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        self.open.add(request)
        super().finish_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.open.discard(request)
        if request in self.reset:  # no orderly shutdown before the close: that would send FIN
            self.reset.discard(request)
            return self.close_request(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news; an error of the local Hub itself is printed."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    def close_connections(self) -> None:
        for each in list(self.open):
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # closed meanwhile
