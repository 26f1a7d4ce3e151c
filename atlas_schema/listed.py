"""A published atlas on a web server, which lists no folders: a small file says what there is.

`push` writes it last: `.atlas/files.json`, with the size and SHA-256 of every file of the publication.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from atlas_schema.errors import ShardCorrupt

FILES = ".atlas/files.json"


def listed_files(encoded: bytes, where: str) -> Mapping[str, Mapping[str, Any]]:
    """By path, `bytes` and `sha256` of each file. ShardCorrupt where the file is not what `push` writes."""
    try:
        files: Mapping[str, Mapping[str, Any]] = json.loads(encoded)["files"]
        if not all({"bytes", "sha256"} <= told.keys() for told in files.values()):
            raise ValueError("sizes or digests are missing")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ShardCorrupt(f"{where}/{FILES}: damaged: {error}. Publish the atlas again with `push`", FILES) from None
    return files
