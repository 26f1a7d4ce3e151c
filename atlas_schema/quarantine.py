"""Damaged files, put aside with their bytes until what replaces them stands.

A file under `.atlas/quarantine/` is named as it was: `parts/probe/zoo-vit/...`, `neurons/zoo-vit/...`. Nothing reads
it; somebody may want to look at it, and until its successor is committed it is all there is.
"""

from __future__ import annotations

from atlas_schema.store import Store

QUARANTINE = ".atlas/quarantine"


def put_aside(store: Store, path: str) -> str:
    """Move a damaged file out of the way; its new path, "" where there is none. An earlier one is not overwritten."""
    if not store.exists(path):
        return ""
    place = _free_place(store, path)
    store.move(path, place)
    return place


def keep_copy(store: Store, path: str, encoded: bytes) -> str:
    """Keep the bytes of a damaged file that will be replaced in one step where it stands; the path of the copy."""
    number = 1
    while not store.create(place := _place(path, number), encoded):
        if store.read(place) == encoded:
            break
        number += 1
    return place


def origin(place: str) -> str:
    """Where a file that was put aside lay."""
    path = place.removeprefix(f"{QUARANTINE}/")
    name, _, number = path.rpartition("~")
    path = name if name and number.isdigit() else path
    return f".atlas/{path}" if path.startswith("parts/") else path


def _place(path: str, number: int) -> str:
    return f"{QUARANTINE}/{path.removeprefix('.atlas/')}" + (f"~{number}" if number > 1 else "")


def _free_place(store: Store, path: str) -> str:
    number = 1
    while store.exists(_place(path, number)):
        number += 1
    return _place(path, number)
