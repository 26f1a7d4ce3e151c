"""An atlas to publish and a Hub of this machine to publish it to."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from atlas_schema.store import Store
from tests.atlas_schema.made_atlas import make_atlas
from tests.hub_clients import hub_for_this_process
from tests.hub_server import HubServer, Repository

_names = itertools.count()


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models with every table, not to be changed."""
    folder = tmp_path_factory.mktemp("made") / "atlas"
    made_in(folder)
    return folder


def made_in(folder: Path, widths: tuple[int, ...] = (12, 8), *more: str) -> Store:
    """Two models, the first with every table but those of stages that `more` names."""
    store = make_atlas(Store(folder), widths=widths, size=8, stages=("visualize", "evidence", "examples", *more))
    return make_atlas(store, slug="zoo-deit", widths=(8,), size=8, stages=("visualize",))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    with hub_for_this_process(str(tmp_path_factory.mktemp("home"))) as server:
        yield server


@pytest.fixture
def hub(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    monkeypatch.setattr("jobs.publishing.hub.PAUSES", (0.01, 0.01))
    server.requests.clear()
    server.large.clear()
    yield server
    assert not server.faults, "an injected fault was never met"


@pytest.fixture
def name() -> str:
    """A repository that is not there yet: clients remember what they saw of one."""
    return f"org/atlas-{next(_names)}"


def files(repository: Repository, revision: str = "main") -> dict[str, bytes]:
    """What a revision holds, without the file that the Hub puts into each repository."""
    commit = repository.at(revision)
    assert commit is not None
    return {path: blob.data for path, blob in commit.files.items() if path != ".gitattributes"}
