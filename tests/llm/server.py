"""A scripted OpenAI-compatible server on loopback, for the tests of the backends."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import attrs

__all__ = ["Answer", "Asked", "Server", "chat", "error", "running", "until_closed"]


@attrs.frozen
class Asked:
    """One request as it arrived."""

    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]


@attrs.frozen
class Answer:
    """One scripted answer: a status, a body and headers; a negative status closes the connection without an answer."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = attrs.field(factory=dict)


def chat(text: str | None = "hello", *, finish: str = "stop", prompt: int = 7, completion: int = 3) -> Answer:
    message = {"role": "assistant", "content": text}
    data = {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "tiny",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion},
    }
    return Answer(body=json.dumps(data).encode())


def error(status: int, message: str, code: str | None = None, **headers: str) -> Answer:
    body = json.dumps({"error": {"message": message, "code": code}}).encode()
    return Answer(status, body, {name.replace("_", "-"): value for name, value in headers.items()})


class Listener(ThreadingHTTPServer):
    """A server that prints nothing when a client disconnects, because tests read standard error."""

    def handle_error(self, request: object, client_address: object) -> None:
        pass


@attrs.define
class Server:
    """A server that answers the i-th chat request with ``script[i]`` (its last entry repeats) and lists ``models``.

    ``closed`` is set when a client abandons a request that `until_closed` holds.
    """

    script: Sequence[Answer | Callable[[Server, Any], Answer]]
    models: Sequence[str] | None = ("tiny",)
    models_status: int = 200
    metrics: str | None = None
    listed_at: str = ""
    """The only path that lists its models; empty for any path."""
    asked: list[Asked] = attrs.field(factory=list)
    holding: threading.Event = attrs.field(factory=threading.Event)
    closed: threading.Event = attrs.field(factory=threading.Event)
    url: str = ""

    @property
    def chats(self) -> list[Asked]:
        return [asked for asked in self.asked if asked.path.endswith("/chat/completions")]


def until_closed(server: Server, connection: Any) -> Answer:
    """Hold the request until its client closes the connection."""
    server.holding.set()
    connection.settimeout(10)
    if connection.recv(1) == b"":
        server.closed.set()
    return Answer(-1)


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            server.asked.append(Asked(self.path, dict(self.headers), {}))
            if self.path == "/metrics":
                self._send(Answer(404, b"none") if server.metrics is None else Answer(body=server.metrics.encode()))
            elif server.models is None or server.listed_at not in ("", self.path):
                self._send(Answer(404, b"no such page"))
            else:
                data = {"data": [{"id": name} for name in server.models]}
                self._send(Answer(server.models_status, json.dumps(data).encode()))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            index = len(server.chats)
            server.asked.append(Asked(self.path, dict(self.headers), body))
            line = server.script[min(index, len(server.script) - 1)]
            self._send(line if isinstance(line, Answer) else line(server, self.connection))

        def _send(self, answer: Answer) -> None:
            if answer.status < 0:
                self.close_connection = True
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, format: str, *args: Any) -> None:
            return

    return Handler


@contextmanager
def running(
    *script: Answer | Callable[[Server, Any], Answer], models: Sequence[str] | None = ("tiny",)
) -> Iterator[Server]:
    """Yield a `Server` on a free port; ``url`` is its address without ``/v1``."""
    server = Server(script or (chat(),), models)
    listener = Listener(("127.0.0.1", 0), _handler(server))
    listener.daemon_threads = True
    server.url = f"http://127.0.0.1:{listener.server_address[1]}"
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()
