"""An OpenAI-compatible server on loopback, whose replies a function of the messages computes."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import attrs

__all__ = ["Server", "serving"]


class Listener(ThreadingHTTPServer):
    """A listener that prints nothing when a client disconnects, because the test reads the command's stderr."""

    def handle_error(self, request: object, client_address: object) -> None:
        pass


@attrs.define
class Server:
    """A server that counts its requests in ``chats``; ``spec`` is the value for ``--model``.

    A ``status`` over 200 refuses every request, and a negative one closes the connection without a reply.
    """

    answer: Callable[[list[dict[str, str]]], str]
    status: int = 200
    chats: int = 0
    spec: str = ""
    on_chat: Callable[[Server], None] = lambda server: None


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._send({"data": [{"id": "tiny"}]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            server.chats += 1
            server.on_chat(server)
            if server.status < 0:
                self.close_connection = True
                return
            text = server.answer(body["messages"])
            message = {"role": "assistant", "content": text}
            usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
            self._send({"model": "tiny", "choices": [{"message": message, "finish_reason": "stop"}], "usage": usage})

        def _send(self, data: Any) -> None:
            if server.status != 200:
                data = {"error": {"message": "the key is wrong"}}
            body = json.dumps(data).encode()
            # A client that was interrupted does not wait for its reply.
            with suppress(ConnectionError):
                self.send_response(server.status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            return

    return Handler


@contextmanager
def serving(answer: Callable[[list[dict[str, str]]], str], status: int = 200) -> Iterator[Server]:
    """Yield a `Server` on a free port."""
    server = Server(answer, status)
    listener = Listener(("127.0.0.1", 0), _handler(server))
    listener.daemon_threads = True
    server.spec = f"openai:http://127.0.0.1:{listener.server_address[1]}#tiny?limit=4&tries=1"
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()
