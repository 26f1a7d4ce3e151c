"""Stores to test on: a folder, memory:// and a local S3 server that can be told to fail."""

from __future__ import annotations

import itertools
import shutil
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from atlas_schema.store import Store
from tests.atlas_schema.made_atlas import make_atlas

Fault = Callable[[dict[str, Any], Callable[..., Any], Any], Iterable[bytes]]


class FaultyS3:
    """moto's S3 behind a WSGI layer: each fault in `faults` meets the next PUT of an object, then is gone."""

    def __init__(self) -> None:
        from moto.server import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
        from werkzeug.serving import make_server

        self.moto = DomainDispatcherApplication(create_backend_app)
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str, int]] = []  # method, path, bytes of the answer's body
        self.server = make_server("127.0.0.1", 0, self, True, request_handler=MotoRequestHandler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()
        self.buckets = itertools.count()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        is_object = environ["PATH_INFO"].count("/") > 1
        if self.faults and environ["REQUEST_METHOD"] == "PUT" and is_object:
            return self.faults.pop(0)(environ, start_response, self.moto)
        body = list(self.moto(environ, start_response))
        self.requests.append((environ["REQUEST_METHOD"], environ["PATH_INFO"], sum(map(len, body))))
        return body

    def new_bucket(self) -> str:
        import boto3

        name = f"bucket-{next(self.buckets)}"
        boto3.client("s3", endpoint_url=self.url, region_name="us-east-1").create_bucket(Bucket=name)
        return name


def answer(status: str, code: str) -> Fault:
    """A fault that answers without doing anything."""

    def fault(environ: dict[str, Any], start_response: Callable[..., Any], moto: Any) -> Iterable[bytes]:
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        start_response(status, [("Content-Type", "application/xml")])
        return [f"<Error><Code>{code}</Code><Message>injected</Message></Error>".encode()]

    return fault


def lose_answer(environ: dict[str, Any], start_response: Callable[..., Any], moto: Any) -> Iterable[bytes]:
    """The store keeps the object and then says 503: the client cannot know that it succeeded."""
    list(moto(environ, lambda *_: None))
    start_response("503 Service Unavailable", [("Content-Type", "application/xml")])
    return [b"<Error><Code>ServiceUnavailable</Code><Message>injected</Message></Error>"]


def break_off(environ: dict[str, Any], start_response: Callable[..., Any], moto: Any) -> Iterable[bytes]:
    """The connection is cut after ten bytes of the body."""
    environ["wsgi.input"].read(10)
    with suppress(OSError):
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
    start_response("500 Internal Server Error", [])
    return []


@pytest.fixture(scope="session")
def s3_server() -> Iterator[FaultyS3]:
    pytest.importorskip("s3fs")
    pytest.importorskip("moto")
    with pytest.MonkeyPatch.context() as environment:
        for name, value in {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            environment.setenv(name, value)
        server = FaultyS3()
        environment.setenv("AWS_ENDPOINT_URL", server.url)
        yield server
        server.server.shutdown()


@pytest.fixture
def s3(s3_server: FaultyS3) -> Iterator[FaultyS3]:
    s3_server.faults.clear()
    s3_server.requests.clear()
    yield s3_server
    assert not s3_server.faults, "an injected fault was never met"


_memory = itertools.count()


@pytest.fixture(params=["folder", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Any) -> Store:
    """An empty store of each kind."""
    if request.param == "folder":
        return Store(tmp_path / "atlas")
    if request.param == "memory":
        return Store(f"memory://test-{next(_memory)}")
    return Store(f"s3://{request.getfixturevalue('s3').new_bucket()}/atlas")


@pytest.fixture
def folder(tmp_path: Any) -> Store:
    return Store(tmp_path / "atlas")


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A whole, sound atlas in a folder, not to be changed."""
    return make_atlas(Store(tmp_path_factory.mktemp("sound") / "atlas"))


@pytest.fixture
def atlas(sound: Store, folder: Store) -> Store:
    """A copy of it that the test may spoil."""
    shutil.copytree(sound.url, folder.url)
    return folder
