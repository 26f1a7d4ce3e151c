"""What holds for all tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from pipeline.models import LoadedModel

# a shared machine pauses a test for longer than any example takes: only what a test says decides
settings.register_profile("shared", deadline=None)
settings.load_profile("shared")


@pytest.fixture(scope="session")
def vit() -> LoadedModel:
    """The zoo's ViT."""
    from pipeline.models import ModelRequest, load

    return load(ModelRequest("zoo/vit"))


@pytest.fixture(scope="session")
def vit_graph(vit: LoadedModel) -> bytes:
    """It, as browsers run it: writing that takes seconds, once for all tests."""
    from pipeline.uses.in_browser import graph_of

    return graph_of(vit)
