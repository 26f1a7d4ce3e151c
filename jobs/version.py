"""Versions of this project and of its libraries, as an atlas keeps them."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version

LIBRARIES = ("torch", "timm", "open_clip_torch", "pillow", "pyarrow", "ray")


@cache
def code_version() -> str:
    try:
        return version("neuron-atlas")
    except PackageNotFoundError:  # run from a folder that was never installed
        return "unknown"


def software() -> list[dict[str, str]]:
    """Name and version of each library whose version can change a result."""
    return [{"name": "neuron-atlas", "version": code_version()}] + [
        {"name": name, "version": version(name)} for name in LIBRARIES
    ]
