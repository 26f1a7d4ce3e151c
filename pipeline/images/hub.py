"""A dataset by its Hugging Face name, or as `save_to_disk` wrote it, through the `datasets` library and its cache."""

import json
import os
import re
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atlas_schema.errors import AtlasError, BadConfig, BadImage, NoNetwork, nearest
from pipeline.images.choice import Choice
from pipeline.images.columns import bytes_of, columns_of
from pipeline.images.entry import Entry, Source, stamp_of
from pipeline.models.network import quick_when_offline

_SPEC = re.compile(r"hf:(?P<name>[^:]+)(:(?P<split>[^:\[]+(\[[^\]]*\])?)?(:(?P<column>.+))?)?")
_LOADING = threading.Lock()
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Hub(Source):
    """Rows of one split. A locator is (column, row). Workers load the dataset anew, from their machine's cache.

    Without a split, `name` is the folder of one that `save_to_disk` wrote.
    """

    name: str
    split: str
    choice: Choice = field(default_factory=Choice)

    def entries(self) -> Iterator[Entry]:
        data = _dataset(self.name, self.split)
        where = f"hf:{self.name}:{self.split}" if self.split else self.name
        columns = columns_of(data.features, self.choice, where)
        licence = data.info.license or ""
        known_only = data.select_columns(list(columns.known))
        for row in range(len(data)):
            with _ours(self.name):
                facts = columns.facts(known_only[row] if columns.known else {})
            facts["licence"] = facts["licence"] or licence
            if not os.path.isabs(self.name):
                facts["source"] = facts["source"] or f"{where}, row {row}"
            id = f"{self.split}/{row:08d}" if self.split else f"{row:08d}"
            yield Entry(id=id, locator=(columns.image, row), **facts)

    @property
    def place(self) -> tuple[str, ...]:
        return ("hub", self.name, self.split)

    def stamps(self, entries: Sequence[Entry]) -> list[str]:
        """The Arrow files that the library made of the dataset, and the row; of an image that is a file, that file."""
        if not entries:
            return []
        column, _ = entries[0].locator
        with _ours(self.name):
            data = _files(self.name, self.split, column)
            arrow = " ".join(stamp_of(file["filename"]) for file in data.cache_files)
            paths = _paths(data, column)
        rows = [row for _, row in (entry.locator for entry in entries)]
        return [arrow and (stamp_of(paths[row]) if row in paths else f"{arrow} {column} {row}") for row in rows]

    def read(self, locator: tuple[str, int]) -> bytes:
        column, row = locator
        with _ours(self.name):
            cell = _files(self.name, self.split, column)[row][column]
        if isinstance(cell, dict) and cell["bytes"] is None and cell["path"]:
            if not os.path.isfile(cell["path"]):
                raise BadImage(f"only a path is given, {cell['path']}, and no file is there")
            return Path(cell["path"]).read_bytes()
        return bytes_of(cell)


def hub_source(spec: str, choice: Choice) -> Hub:
    """hf:NAME[:SPLIT[:IMAGE_COLUMN]]; NAME may be a local dataset folder. The split where there is only one."""
    match = _SPEC.fullmatch(spec)
    if not match:
        raise BadConfig(f"{spec}: expected hf:NAME[:SPLIT[:IMAGE_COLUMN]], such as hf:uoft-cs/cifar10:test:img.")
    name = os.path.abspath(match["name"]) if os.path.isdir(match["name"]) else match["name"]
    choice = replace(choice, image=match["column"] or choice.image)
    if is_saved(_names_in(name)):
        return saved_source(spec, name, match["split"] or "", choice)
    splits = _asked(name, lambda: datasets.get_dataset_split_names(name))
    split = match["split"] or (splits[0] if len(splits) == 1 else "")
    if split.partition("[")[0] not in splits:
        raise BadConfig(_no_split(spec, split, splits, lambda close: f"hf:{name}:{close}"))
    return Hub(name, split, choice)


def is_saved(files: Collection[str]) -> bool:
    """Whether these files of a folder are what `save_to_disk` writes: of a dataset, or of one with splits."""
    return {"state.json", "dataset_info.json"} <= set(files) or "dataset_dict.json" in files


def saved_source(spec: str, folder: str, split: str, choice: Choice) -> Hub:
    """The dataset that `save_to_disk` wrote into a local folder; of one with splits the one named, or its only one."""
    if "dataset_dict.json" not in _names_in(folder):
        if split:
            raise BadConfig(f"{spec}: save_to_disk wrote one split here; leave out {split!r}.")
        return Hub(folder, "", choice)
    splits = _splits_in(folder)
    split = split or (splits[0] if len(splits) == 1 else "")
    if split not in splits:
        raise BadConfig(_no_split(spec, split, splits, lambda close: os.path.join(folder, close)))
    return Hub(os.path.join(folder, split), "", choice)


def _splits_in(folder: str) -> list[str]:
    """The splits that save_to_disk wrote."""
    try:
        splits = json.loads(Path(folder, "dataset_dict.json").read_bytes())["splits"]
        if not isinstance(splits, list) or not all(isinstance(name, str) for name in splits):
            raise ValueError(f"its splits are {splits!r}")
    except (ValueError, LookupError, TypeError, RecursionError, OSError) as error:
        raise BadConfig(f"{folder}/dataset_dict.json cannot be read: {error}. Expected a list of splits.") from error
    return splits


def _no_split(spec: str, split: str, splits: Sequence[str], named: Callable[[str], str]) -> str:
    wrong = f"it has no split {split!r}" if split else "it has several splits"
    close = nearest(split, splits)[:1] or splits[:1]
    return f"{spec}: {wrong}. Its splits: {', '.join(splits) or 'none'}. Write for example {named(''.join(close))}."


def _names_in(folder: str) -> list[str]:
    return os.listdir(folder) if os.path.isdir(folder) else []


def _dataset(name: str, split: str) -> datasets.Dataset:
    with _LOADING:
        return _loaded(name, split)


@lru_cache(maxsize=4)
def _loaded(name: str, split: str) -> datasets.Dataset:
    if not split:
        data = _asked(name, lambda: datasets.load_from_disk(name), f"{name}, as save_to_disk writes one,")
        if not isinstance(data, datasets.Dataset):
            raise BadConfig(f"{name}: save_to_disk wrote several splits here. Name the folder of one of them.")
        return data
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


def _paths(data: datasets.Dataset, column: str) -> dict[int, str]:
    """By row, the files of images of which the dataset holds a path alone; no image is read for it."""
    paths = {}
    for start in range(0, len(data), 10_000):
        cells = data.with_format("arrow")[start : start + 10_000][column].combine_chunks()
        if not pa.types.is_struct(cells.type):
            break
        alone = pc.and_(pc.is_null(cells.field("bytes")), pc.is_valid(cells.field("path")))
        for row in np.flatnonzero(alone.to_numpy(zero_copy_only=False)).tolist():
            paths[start + row] = cells.field("path")[row].as_py()
    return paths


def _asked(name: str, ask: Callable[[], Answer], what: str = "") -> Answer:
    """What the library answers; its exceptions turned into ours, about `what`."""
    with quick_when_offline(), _ours(name, what):
        return ask()


@contextmanager
def _ours(name: str, what: str = "") -> Iterator[None]:
    """The library's exceptions turned into ours."""
    try:
        yield
    except AtlasError:
        raise
    except ConnectionError as error:
        raise NoNetwork(
            f"hf:{name}: it is neither in the local cache nor can it be fetched from the hub: {error}. "
            "Connect this machine once, set HF_ENDPOINT to a mirror or HF_HOME to a filled cache, or name a folder."
        ) from error
    except Exception as error:  # the library passes on whatever the libraries below it raise
        raise BadConfig(
            f"{what or f'hf:{name}'} cannot be loaded: {error}\nExpected a dataset of the hub, or a folder of one."
        ) from error
