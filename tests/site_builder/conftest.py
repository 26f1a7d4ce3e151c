"""Atlases of drawn pictures for all tests of the site."""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # drawn_atlas and browser, beside this file

from browser import Seen
from drawn_atlas import EVIDENT, HEADS_ALONE, WIDE, draw_atlas


@pytest.fixture
def quiet(request: pytest.FixtureRequest) -> Iterator[None]:
    """After a test: nothing on the console, no request that left the site's folder, nothing that the next one sees.

    For modules with a fixture `seen`.
    """
    seen: Seen = request.getfixturevalue("seen")
    with seen.quiet():
        yield
    seen.page.run("try { localStorage.clear() } catch {}")  # a page that was left has none


@pytest.fixture(scope="session")
def small_atlas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(draw_atlas(tmp_path_factory.mktemp("small") / "atlas"))


@pytest.fixture(scope="session")
def wide_atlas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(draw_atlas(tmp_path_factory.mktemp("wide") / "atlas", WIDE))


@pytest.fixture(scope="session")
def evident_atlas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(draw_atlas(tmp_path_factory.mktemp("evident") / "atlas", EVIDENT))


@pytest.fixture(scope="session")
def alone_atlas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(draw_atlas(tmp_path_factory.mktemp("alone") / "atlas", HEADS_ALONE))


@pytest.fixture
def unpacked() -> Callable[[Path], Any]:
    """Reads a file of gzip JSON."""
    return lambda path: json.loads(gzip.decompress(path.read_bytes()))
