"""What makes the Hub's client and `datasets` take the server of `tests.hub_server` for the Hub."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.hub_server import TOKEN, HubServer


@contextmanager
def hub_for_this_process(home: str) -> Iterator[HubServer]:
    """A server that the client library and `datasets`, in this process, take for the Hub."""
    import datasets
    from huggingface_hub import constants
    from huggingface_hub.utils import disable_progress_bars

    hub = HubServer()
    disable_progress_bars()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "ENDPOINT", hub.url)
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
        patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        patch.setattr(constants, "HF_HUB_CACHE", f"{home}/hub")
        patch.setattr(datasets.config, "HF_ENDPOINT", hub.url)
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", f"{home}/datasets")
        patch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
        patch.setenv("HF_TOKEN", TOKEN)
        yield hub
    hub.close()


def environment(hub: HubServer, home: str) -> dict[str, str]:
    """The same for a process of its own: variables to be set for it."""
    return {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HOME": home, "HF_HUB_DISABLE_XET": "1"}
