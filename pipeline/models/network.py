"""Whether the hub can be reached, found out at once."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit


@contextmanager
def quick_when_offline() -> Iterator[None]:
    """Where the hub's name does not resolve, look in the cache only: its client would retry for a minute."""
    from huggingface_hub import constants

    was = constants.HF_HUB_OFFLINE
    proxied = any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"))
    host = urlsplit(constants.ENDPOINT).hostname or ""
    try:
        if not proxied:
            socket.getaddrinfo(host, 443)
    except OSError:
        constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = was
