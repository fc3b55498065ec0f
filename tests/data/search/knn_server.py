"""A server on loopback that speaks clip-retrieval's protocol, truly or not."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[["Handler", str, dict[str, Any]], None]


class Handler(BaseHTTPRequestHandler):
    """Hands each request to a function, and keeps what was asked."""

    asked: list[tuple[str, dict[str, Any]]]
    answer: Answer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append((self.path, body))
        type(self).answer(self, self.path, body)

    def send(self, value: Any, status: int = 200, **headers: str) -> None:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        for key, text in headers.items():
            self.send_header(key.replace("_", "-"), text)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def true_answer(handler: Handler, path: str, body: dict[str, Any]) -> None:
    """Answer as clip-retrieval does: the first results with metadata, the others with ids alone."""
    if path == "/metadata":
        handler.send([{"id": one, "metadata": {"url": address(one)}} for one in body["ids"]])
        return
    start = len(body["text"] or "") * 1000 if body["text"] else 7000
    found = []
    for place in range(min(body["num_result_ids"], 300)):
        one: dict[str, Any] = {"id": start + place, "similarity": round(0.4 - place / 1000, 4)}
        if place < body["num_images"]:
            one |= {"url": address(start + place), "caption": "a caption"}
        found.append(one)
    handler.send(found)


def address(one: int) -> str:
    """Return the address of an image."""
    return f"http://images.example/{one}.jpg"


@contextmanager
def service(answer: Answer = true_answer) -> Iterator[tuple[str, list[tuple[str, dict[str, Any]]]]]:
    """Give the URL of a running service, and what it was asked."""
    handler = type("Handler", (Handler,), {"asked": [], "answer": staticmethod(answer)})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", handler.asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
