"""A server on loopback that answers as strangers do."""

from __future__ import annotations

import io
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
from PIL import Image

ROBOTS = "User-agent: edgeproof\nDisallow: /private\n\nUser-agent: *\nDisallow: /others\n"


def picture(seed: int, size: tuple[int, int] = (120, 90), form: str = "JPEG") -> bytes:
    """Return a small picture, another one for each seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(out, form)
    return out.getvalue()


@cache
def bomb() -> bytes:
    """Return a small PNG of 400 million white pixels."""
    out = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(out, "PNG")
    return out.getvalue()


class Stranger(BaseHTTPRequestHandler):
    """One kind of answer a path."""

    protocol_version = "HTTP/1.0"
    asked: Counter[str]
    robots_status: int
    gate: threading.Event

    def do_GET(self) -> None:
        name = self.path.lstrip("/").split("?")[0]
        self.asked[name] += 1
        kind = name.split("/")[0].split(".")[0].rstrip("0123456789")
        answer = getattr(self, f"answer_{kind}", None)
        try:
            if answer is None:
                self.send_error(404)
            else:
                answer(name)
        except (BrokenPipeError, ConnectionResetError):
            # The other side has heard enough.
            return

    def send(self, data: bytes, kind: str = "image/jpeg", **headers: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def answer_robots(self, name: str) -> None:
        if self.robots_status == 200:
            self.send(ROBOTS.encode(), "text/plain")
        else:
            self.send_error(self.robots_status)

    def answer_good(self, name: str) -> None:
        self.send(picture(int("0" + "".join(filter(str.isdigit, name)))))

    def answer_gate(self, name: str) -> None:
        """Answer nobody before the gate is open."""
        self.gate.wait(60)
        self.answer_good(name)

    def answer_private(self, name: str) -> None:
        self.send(picture(90))

    def answer_noai(self, name: str) -> None:
        self.send(picture(91), X_Robots_Tag="noai, noimageai")

    def answer_reserved(self, name: str) -> None:
        self.send(picture(92), TDM_Reservation="1")

    def answer_otherbot(self, name: str) -> None:
        self.send(picture(93), X_Robots_Tag="someoneelse: noai")

    def answer_page(self, name: str) -> None:
        self.send(b"<html>no image here</html>", "text/html; charset=utf-8")

    def answer_fake(self, name: str) -> None:
        self.send(b"<html>no image here either</html>")

    def answer_empty(self, name: str) -> None:
        self.send(b"")

    def answer_tiny(self, name: str) -> None:
        self.send(picture(94, (20, 20)))

    def answer_bomb(self, name: str) -> None:
        self.send(bomb(), "image/png")

    def answer_cut(self, name: str) -> None:
        data = picture(95)
        self.send_response(200)
        self.send_header("Content-Type", "image/jpeg")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2])

    def answer_halved(self, name: str) -> None:
        data = picture(96)
        self.send(data[: len(data) // 2])

    def answer_boast(self, name: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "image/jpeg")
        self.send_header("Content-Length", str(10**12))
        self.end_headers()

    def answer_flood(self, name: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "image/jpeg")
        self.end_headers()
        for _ in range(1_000):
            self.wfile.write(bytes(1 << 16))

    def answer_drip(self, name: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "image/jpeg")
        self.end_headers()
        for _ in range(200):
            self.wfile.write(b"\xff")
            time.sleep(0.05)

    def answer_dripheader(self, name: str) -> None:
        self.wfile.write(b"HTTP/1.0 200 OK\r\n")
        for _ in range(200):
            self.wfile.write(b"X")
            time.sleep(0.05)

    def answer_loop(self, name: str) -> None:
        self.redirect("/loop")

    def answer_chain(self, name: str) -> None:
        self.redirect(f"/chain{int(name.removeprefix('chain') or 0) + 1}")

    def answer_moved(self, name: str) -> None:
        self.redirect("/good7")

    def answer_sneaky(self, name: str) -> None:
        self.redirect("/private")

    def answer_local(self, name: str) -> None:
        self.redirect("file:///etc/hostname")

    def answer_ftp(self, name: str) -> None:
        self.redirect("ftp://127.0.0.1/a.jpg")

    def answer_flaky(self, name: str) -> None:
        if self.asked[name] == 1:
            self.send_error(503)
        else:
            self.send(picture(97))

    def answer_broken(self, name: str) -> None:
        self.send_error(500)

    def redirect(self, place: str) -> None:
        self.send_response(302)
        self.send_header("Location", place)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def stranger(
    robots_status: int = 200, gate: threading.Event | None = None
) -> Iterator[tuple[str, Counter[str]]]:
    """Give the address of a running server, and how often each path was asked for."""
    told = {"asked": Counter(), "robots_status": robots_status, "gate": gate or threading.Event()}
    handler = type("Handler", (Stranger,), told)
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
