"""Folders and files of a site that are named by their content: written once, whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path


def content_name(prefix: str, *contents: bytes) -> str:
    """`prefix`-HASH of all contents, each with its length, so that no two lists of contents are alike."""
    digest = hashlib.sha256()
    for content in contents:
        digest.update(f"{len(content)} ".encode() + content)
    return f"{prefix}-{digest.hexdigest()[:12]}"


def write_folder(site: Path, name: str, files: Callable[[], Mapping[str, bytes] | Iterable[tuple[str, bytes]]]) -> bool:
    """Write the folder `name` of a site from `files()`, one by one, unless it is there; whether it was there."""
    final = site / name
    if final.exists():
        return True
    unfinished = final.with_name(f".{final.name}.tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    made = files()
    for inner, data in made.items() if isinstance(made, Mapping) else made:
        path = unfinished / inner
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    os.rename(unfinished, final)
    return False


def write_by_content(site: Path, prefix: str, files: Mapping[str, bytes]) -> str:
    """Write files that are made already into a folder named by them; its name."""
    name = content_name(prefix, *(part for inner in sorted(files) for part in (inner.encode(), files[inner])))
    write_folder(site, name, lambda: files)
    return name


def write_file(site: Path, prefix: str, suffix: str, data: bytes) -> str:
    """Write a file that is named by its content, unless it is there; its path in the site."""
    name = f"{prefix}-{hashlib.sha256(data).hexdigest()[:12]}{suffix}"
    path = site / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        replace(path, data)
    return name


def replace(path: Path, data: bytes) -> None:
    """Write a file in one step: whoever opens it meets the old one or the new, whole."""
    unfinished = path.with_name(f".{path.name}.tmp")
    unfinished.write_bytes(data)
    os.replace(unfinished, path)
