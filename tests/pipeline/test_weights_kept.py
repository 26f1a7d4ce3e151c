"""Weights behind a URL are fetched once a machine, whoever asks and how many at once; and anew when they changed."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from atlas_schema.errors import WeightsUnreadable
from pipeline.models.weights import read_weights
from pipeline.models.weights.kept import folder, stamp_of


class Server:
    """An HTTP server of one file, which counts how often its bytes are asked for."""

    def __init__(self, value: float, *, tells: bool = True) -> None:
        self.served, self.tells, self.slow = 0, tells, 0.0
        self.put(value)
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.send_response(200 if self.path.endswith("weights.safetensors") else 404)
                self.send_header("Content-Length", str(len(owner.data)))
                if owner.tells:
                    self.send_header("ETag", hashlib.sha256(owner.data).hexdigest())
                self.end_headers()

            def do_GET(self) -> None:
                self.do_HEAD()
                owner.served += self.path.endswith("weights.safetensors")
                time.sleep(owner.slow)
                self.wfile.write(owner.data)

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/weights.safetensors"

    def put(self, value: float) -> None:
        self.data = save({"w": torch.full((100, 100), value)})

    def read(self) -> float:
        return read_weights(self.url).tensors["w"].mean().item()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of what is kept, an empty one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert folder() == tmp_path / "neuron-atlas" / "weights"
    return folder()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server(1.0)
    yield made
    made.server.shutdown()


def test_weights_are_fetched_once_and_anew_when_they_changed(here: Path, server: Server):
    assert [server.read() for _ in range(3)] == [1.0] * 3
    assert server.served == 1
    left = here / f".{next(here.glob('*.safetensors')).name}.0123.tmp"
    left.write_bytes(b"of a process that was killed")
    server.put(2.0)
    assert [server.read() for _ in range(2)] == [2.0] * 2
    assert server.served == 2
    assert len(list(here.iterdir())) == 2, "the new file and its lock: the old one went"


def test_readers_that_ask_at_once_fetch_once(here: Path, server: Server):
    """Each has the lock's file open by itself, as workers in processes of their own have."""
    server.slow = 0.5
    with ThreadPoolExecutor(3) as readers:
        assert list(readers.map(lambda _: server.read(), range(3))) == [1.0] * 3
    assert server.served == 1


def test_a_file_that_was_cut_off_is_fetched_again(here: Path, server: Server):
    server.read()
    (kept,) = here.glob("*.safetensors")
    os.truncate(kept, 100)
    assert server.read() == 1.0
    assert server.served == 2


def test_a_server_that_does_not_tell_changes_is_asked_each_time(here: Path):
    silent = Server(1.0, tells=False)
    assert silent.read() == 1.0
    silent.put(2.0)
    assert silent.read() == 2.0
    assert not here.exists()
    silent.server.shutdown()


def test_where_nothing_can_be_kept_the_url_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server):
    (tmp_path / "file").write_text("where the folder would be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert server.read() == 1.0
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("pipeline.models.weights.kept.FREE_SHARE", 0.0)
    assert server.read() == 1.0
    assert not list(folder().glob("*.safetensors"))


def test_a_url_with_nothing_behind_it_is_named(here: Path, server: Server):
    with pytest.raises(WeightsUnreadable, match="nothing"):
        read_weights(server.url.replace("weights", "nothing"))


def test_what_stores_tell():
    assert stamp_of({"size": 3, "ETag": '"a"', "type": "file"}) == '3 ETag="a"'
    assert stamp_of({"size": 3, "mtime": 1.5}) == "3 mtime=1.5"
    assert stamp_of({"size": 3}) is None
    assert stamp_of({"size": None, "ETag": "a"}) is None
