"""Published atlases: a dataset repository of the Hub, a web server. Both are read only, and a range is one request."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from atlas_schema.errors import NothingThere
from atlas_schema.listed import FILES, listed_files
from atlas_schema.objects import Objects

KNOWN_SECONDS = 600.0  # for so long it is remembered where a large file lies: the Hub signs that for an hour
_REPOSITORY = re.compile(r"datasets/([^/@]+/[^/@]+)(?:@(.+))?")


def objects_at(url: str) -> Objects:
    """The store at a URL, of its kind. ImportError or ValueError where fsspec knows none, or its package is missing."""
    scheme = url.partition("://")[0]
    kind = {"hf": HubFiles, "http": WebFiles, "https": WebFiles}.get(scheme, Objects)
    return kind(url, scheme)


class HubFiles(Objects):
    """A dataset repository. Ranges are asked for directly: the Hub's file system would look files up before."""

    def __init__(self, url: str, scheme: str) -> None:
        super().__init__(url, scheme)
        self._places: dict[str, tuple[str, float]] = {}  # path -> where the Hub sent us for it, and when

    def read(self, path: str, offset: int, length: int | None) -> bytes:
        if length == 0:
            return b""
        from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

        span = {} if length is None else {"Range": f"bytes={offset}-{offset + length - 1}"}
        try:
            return self._get(path, span)
        except (EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError) as error:
            raise FileNotFoundError(f"{self._full(path)}: {' '.join(str(error).split())}") from error

    def _get(self, path: str, span: Mapping[str, str]) -> bytes:
        from huggingface_hub.utils import build_hf_headers, hf_raise_for_status, http_backoff

        place, since = self._places.get(path, ("", 0.0))
        if place and time.monotonic() - since < KNOWN_SECONDS:
            # Another host: no token goes there. Where it does not answer, the Hub is asked again.
            with suppress(Exception):
                answer = http_backoff("GET", place, headers=dict(span), timeout=60.0, max_retries=0)
                if answer.is_success:
                    return bytes(answer.content)
            self._places.pop(path, None)
        headers = {**build_hf_headers(library_name="neuron-atlas"), **span}
        answer = http_backoff("GET", self._address(path), headers=headers, timeout=60.0)
        if answer.status_code == 416:  # begins behind the end
            return b""
        hf_raise_for_status(answer)
        if answer.history:
            self._places[path] = (str(answer.url), time.monotonic())
        return bytes(answer.content)

    def _address(self, path: str) -> str:
        from huggingface_hub import constants, hf_hub_url

        match = _REPOSITORY.fullmatch(self.root)
        if match is None:  # a model's repository, a folder inside of one: the Hub's file system knows
            return str(self.filesystem.url(self._full(path)))
        revision = match[2] or None
        return hf_hub_url(match[1], path, repo_type="dataset", revision=revision, endpoint=constants.ENDPOINT)


class WebFiles(Objects):
    """A web server, which lists nothing: what there is stands in the file that `push` leaves."""

    def __init__(self, url: str, scheme: str) -> None:
        super().__init__(url.rstrip("/"), scheme)
        self._files: Mapping[str, Mapping[str, Any]] | None = None

    def _listed(self) -> Mapping[str, Mapping[str, Any]]:
        if self._files is None:
            try:
                self._files = listed_files(self.read(FILES, 0, None), self.root)
            except FileNotFoundError:
                raise NothingThere(
                    f"{self.root}: no published atlas here: no {FILES}, which `neuron-atlas push` writes to a folder"
                ) from None
        return self._files

    def walk(self, prefix: str) -> Iterator[str]:
        inside = f"{prefix}/" if prefix else ""
        return (path for path in self._listed() if path.startswith(inside))

    def sizes(self, prefix: str) -> Iterator[tuple[str, int]]:
        return ((path, int(self._listed()[path]["bytes"])) for path in self.walk(prefix))

    def stamps(self, prefix: str) -> Iterator[tuple[str, str]]:
        return ((path, str(self._listed()[path]["sha256"])) for path in self.walk(prefix))
