"""A small file server for a built site: this machine only, with Range requests, no cache surprises."""

from __future__ import annotations

import gzip
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from threading import Thread
from typing import Any, BinaryIO
from urllib.parse import unquote

from atlas_schema.errors import AtlasError, BadConfig, NothingThere

_ONE_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_TEXT = (".html", ".js", ".css", ".svg")

LARGEST_PORT = 65535
HOST = "127.0.0.1"


class PortTaken(AtlasError):
    """Another program listens on the port."""


class QuietServer(ThreadingHTTPServer):
    """A reader who closes a page in the middle of an answer is no error of ours: nothing is printed of it."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class RangeHandler(SimpleHTTPRequestHandler):
    """Static files; a request for one range of bytes is answered with that range (RFC 9110, 14.2)."""

    extensions_map: dict[str, str] = {  # noqa: RUF012  (the base class declares it so)
        **SimpleHTTPRequestHandler.extensions_map,
        ".js": "text/javascript",
        ".webp": "image/webp",
    }

    protocol_version = "HTTP/1.1"  # a connection serves many requests: a page makes dozens

    def list_directory(self, path: str | os.PathLike[str]) -> None:
        """A folder without a page is not there: what else lies in it is nobody's business."""
        self.send_error(HTTPStatus.NOT_FOUND)

    def send_head(self) -> BytesIO | BinaryIO | None:
        if "\0" in unquote(self.path):
            self.send_error(HTTPStatus.BAD_REQUEST, "No file has such a name")
            return None
        asked = _ONE_RANGE.fullmatch(self.headers.get("Range", ""))
        path = self.translate_path(self.path)
        if asked is None or asked.groups() == ("", "") or not os.path.isfile(path):
            return self._compressed(path) or super().send_head()
        size = os.path.getsize(path)
        first, last = byte_range(asked[1], asked[2], size)
        if first > last:
            self.send_response(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
            self.send_header("Content-Range", f"bytes */{size}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        with open(path, "rb") as file:
            file.seek(first)
            body = file.read(last - first + 1)
        self.send_response(HTTPStatus.PARTIAL_CONTENT)
        self.send_header("Content-Type", self.guess_type(path))
        self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        return BytesIO(body)

    def _compressed(self, path: str) -> BytesIO | None:
        """The page, scripts and style as hosts send them, a third of their bytes; None for what is small already."""
        path = os.path.join(path, "index.html") if self.path.partition("?")[0].endswith("/") else path
        if (
            "gzip" not in self.headers.get("Accept-Encoding", "")
            or not path.endswith(_TEXT)
            or not os.path.isfile(path)
        ):
            return None
        body = gzip.compress(Path(path).read_bytes(), 6, mtime=0)
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", self.guess_type(path))
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Vary", "Accept-Encoding")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        return BytesIO(body)

    def end_headers(self) -> None:
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Cache-Control", "no-cache")  # a site rebuilt in place shows at the next reload
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a page makes dozens of requests, and none of them is news."""


class WaitingHandler(RangeHandler):
    """The same; where no site is built yet, its address answers with a page that looks again by itself."""

    def send_head(self) -> BytesIO | BinaryIO | None:
        index = Path(self.directory) / "index.html"
        if index.is_file() or self.path.partition("?")[0] not in ("/", "/index.html"):
            return super().send_head()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(_WAITING)))
        self.end_headers()
        return BytesIO(_WAITING)


_WAITING = b"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="3">
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<title>Neuron atlas</title></head>
<body style="font: 16px/24px system-ui, sans-serif; max-width: 60ch; margin: 64px auto; padding: 0 16px">
<p>Nothing to see yet: the first neurons are being computed. This page shows them as soon as they are there.</p>
</body></html>
"""


def byte_range(first: str, last: str, size: int) -> tuple[int, int]:
    """First and last byte of `bytes=FIRST-LAST` in a file; `-N` is its last N bytes. first > last: none."""
    if first == "":
        return max(0, size - int(last)), size - 1 if int(last) else -1
    return int(first), min(size - 1, int(last) if last else size - 1)


def make_server(
    folder: str | os.PathLike[str], port: int = 8000, host: str = HOST, *, waiting: bool = False
) -> ThreadingHTTPServer:
    """A server for `folder`, not yet running; port 0 takes a free one. Raises NothingThere, BadConfig, PortTaken.

    waiting: there need be no site yet; until there is one, a page says so.
    """
    if not 0 <= port <= LARGEST_PORT:
        raise BadConfig(f"port {port}: expected a number from 0 (any free port) to {LARGEST_PORT}.")
    if not waiting and not (Path(folder) / "index.html").is_file():
        raise NothingThere(f"{folder}: no site here (no index.html); build one with `neuron-atlas site build`")
    handler = WaitingHandler if waiting else RangeHandler
    try:
        return QuietServer((host, port), partial(handler, directory=os.fspath(folder)))
    except OSError as error:
        raise PortTaken(f"port {port}: {error.strerror}; name another with --port, or 0 for any free one") from error


@contextmanager
def serving(folder: str | os.PathLike[str], port: int = 8000, *, or_free: bool = False) -> Iterator[str]:
    """Serve `folder` beside what is done meanwhile; its address. or_free: where the port is taken, at any free one.

    There need be no site yet. Raises BadConfig, PortTaken.
    """
    try:
        server = make_server(folder, port, waiting=True)
    except PortTaken:
        if not or_free:
            raise
        server = make_server(folder, 0, waiting=True)
    with server:
        thread = Thread(target=server.serve_forever, name="site server", daemon=True)
        thread.start()
        try:
            yield f"http://{HOST}:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()


def serve(folder: str | os.PathLike[str], port: int = 8000, host: str = HOST) -> None:
    """Serve `folder` until Ctrl-C; prints the address first."""
    with make_server(folder, port, host) as server:
        print(f"http://{host}:{server.server_address[1]}/  (Ctrl-C ends)", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()
