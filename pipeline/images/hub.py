"""A dataset by its Hugging Face name, through the `datasets` library and its cache."""

import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import datasets

from atlas_schema.errors import BadConfig, BadImage, NoNetwork, nearest
from pipeline.images.columns import bytes_of, image_column, known_columns, known_of
from pipeline.images.entry import Entry, Source
from pipeline.models.network import quick_when_offline

_SPEC = re.compile(r"hf:(?P<name>[^:]+)(:(?P<split>[^:\[]+(\[[^\]]*\])?)?(:(?P<column>.+))?)?")
_LOADING = threading.Lock()


@dataclass(frozen=True)
class Hub(Source):
    """Rows of one split. A locator is (column, row). Workers load the dataset anew, from their machine's cache."""

    name: str
    split: str
    column: str = ""

    def entries(self) -> Iterator[Entry]:
        data = _dataset(self.name, self.split)
        column = image_column(data.features, self.column, f"hf:{self.name}:{self.split}")
        licence = data.info.license or ""
        known_only = data.select_columns(known_columns(data.features))
        for row in range(len(data)):
            facts = known_of(data.features, known_only[row] if known_only.column_names else {})
            facts["licence"] = facts["licence"] or licence
            if not os.path.isabs(self.name):
                facts["source"] = facts["source"] or f"hf:{self.name}:{self.split}, row {row}"
            yield Entry(id=f"{self.split}/{row:08d}", locator=(column, row), **facts)

    def read(self, locator: tuple[str, int]) -> bytes:
        column, row = locator
        cell = _files(self.name, self.split, column)[row][column]
        if isinstance(cell, dict) and cell["bytes"] is None and cell["path"]:
            if not os.path.isfile(cell["path"]):
                raise BadImage(f"only a path is given, {cell['path']}, and no file is there")
            return Path(cell["path"]).read_bytes()
        return bytes_of(cell)


def hub_source(spec: str) -> Hub:
    """hf:NAME[:SPLIT[:IMAGE_COLUMN]]; NAME may be a local dataset folder. The split where there is only one."""
    match = _SPEC.fullmatch(spec)
    if not match:
        raise BadConfig(f"{spec}: expected hf:NAME[:SPLIT[:IMAGE_COLUMN]], such as hf:uoft-cs/cifar10:test:img.")
    name = os.path.abspath(match["name"]) if os.path.isdir(match["name"]) else match["name"]
    splits = _asked(name, lambda: datasets.get_dataset_split_names(name))
    split = match["split"] or (splits[0] if len(splits) == 1 else "")
    if split.partition("[")[0] not in splits:
        wrong = f"it has no split {split!r}" if split else "it has several splits"
        close = nearest(split, splits)[:1] or splits[:1]
        raise BadConfig(
            f"{spec}: {wrong}. Its splits: {', '.join(splits) or 'none'}. Write for example hf:{name}:{''.join(close)}."
        )
    return Hub(name, split, match["column"] or "")


def _dataset(name: str, split: str) -> datasets.Dataset:
    with _LOADING:
        return _loaded(name, split)


@lru_cache(maxsize=4)
def _loaded(name: str, split: str) -> datasets.Dataset:
    return _asked(name, lambda: datasets.load_dataset(name, split=split))


def _files(name: str, split: str, column: str) -> datasets.Dataset:
    """The column of images alone, its cells the files as they are stored."""
    with _LOADING:
        return _undecoded(name, split, column)


@lru_cache(maxsize=4)
def _undecoded(name: str, split: str, column: str) -> datasets.Dataset:
    data = _loaded(name, split).select_columns([column])
    if isinstance(data.features[column], datasets.Image):
        data = data.cast_column(column, datasets.Image(decode=False))
    return data


def _asked(name: str, ask: Any) -> Any:
    """What the library answers; its exceptions turned into ours."""
    try:
        with quick_when_offline():
            return ask()
    except ConnectionError as error:
        raise NoNetwork(
            f"hf:{name}: it is neither in the local cache nor can it be fetched from the hub: {error}. "
            "Connect this machine once, set HF_ENDPOINT to a mirror or HF_HOME to a filled cache, or name a folder."
        ) from error
    except Exception as error:  # the library passes on whatever the libraries below it raise
        raise BadConfig(
            f"hf:{name} cannot be loaded: {error}\nExpected a dataset of the hub, or a local folder of one."
        ) from error
