"""A set that was opened before is not decoded again, and nothing that changed since is overlooked."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from atlas_schema.errors import BadImage
from atlas_schema.published import cache_folder
from pipeline.images.entry import Source
from pipeline.images.probe_set import open_probe_set


def picture(number: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(number).integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def folder(at: Path) -> str:
    for number in range(6):
        (at / f"{number}.png").write_bytes(picture(number))
    return str(at)


def tar(at: Path) -> str:
    with tarfile.open(at / "some.tar", "w") as archive:
        for number in range(6):
            info = tarfile.TarInfo(f"{number}.png")
            info.size = len(picture(number))
            archive.addfile(info, io.BytesIO(picture(number)))
    return str(at / "some.tar")


def parquet(at: Path) -> str:
    cells = [{"bytes": picture(number), "path": None} for number in range(6)]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(pa.table({"image": pa.array(cells, kind)}), at / "some.parquet")
    return str(at / "some.parquet")


def dataset(at: Path) -> str:
    parquet(at)
    return f"hf:{at}:train"


def dataset_of_files(at: Path) -> str:
    """A dataset that holds the paths of its images, as `imagefolder` makes one."""
    folder(at)
    return f"hf:{at}:train"


@pytest.fixture(autouse=True)
def cache_of_datasets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The locators of images that were decoded."""
    seen: list[Any] = []
    examine = Source.examine

    def counted(self: Source, locator: Any) -> tuple[int, int, str]:
        seen.append(locator)
        return examine(self, locator)

    monkeypatch.setattr(Source, "examine", counted)
    return seen


@pytest.mark.parametrize("make", [folder, tar, parquet, dataset, dataset_of_files])
def test_the_second_start_decodes_nothing_and_opens_the_same_set(
    make: Callable[[Path], str], tmp_path: Path, looked_at: list[Any]
) -> None:
    (tmp_path / "set").mkdir()
    spec, memory = make(tmp_path / "set"), tmp_path / "cache"
    first = open_probe_set(spec, memory=memory)
    assert len(looked_at) == 6
    second = open_probe_set(spec, memory=memory)
    assert len(looked_at) == 6
    assert second == first
    assert second.identity == first.identity
    assert np.array_equal(second.open(3), first.open(3))
    open_probe_set(spec)
    assert len(looked_at) == 12, "nothing is remembered where nobody asks"


def test_images_that_changed_came_or_could_not_be_decoded_are_looked_at(tmp_path: Path, looked_at: list[Any]) -> None:
    (tmp_path / "set").mkdir()
    spec, memory = folder(tmp_path / "set"), tmp_path / "cache"
    (tmp_path / "set/bad.png").write_bytes(b"no picture")
    first = open_probe_set(spec, memory=memory)
    looked_at.clear()
    (tmp_path / "set/1.png").write_bytes(picture(11))
    (tmp_path / "set/7.png").write_bytes(picture(7))
    (tmp_path / "set/2.png").unlink()
    second = open_probe_set(spec, memory=memory)
    assert sorted(looked_at) == ["1.png", "7.png", "bad.png"]
    assert second.identity != first.identity
    assert [image.id for image in second.images] == ["0.png", "1.png", "3.png", "4.png", "5.png", "7.png"]
    assert [image.id for image in second.skipped] == ["bad.png"]
    assert second == open_probe_set(spec), "as if nothing were remembered"


def test_an_image_of_a_dataset_that_is_a_file_is_looked_at_when_it_changed(
    tmp_path: Path, looked_at: list[Any]
) -> None:
    (tmp_path / "set").mkdir()
    spec, memory = dataset_of_files(tmp_path / "set"), tmp_path / "cache"
    first = open_probe_set(spec, memory=memory)
    looked_at.clear()
    (tmp_path / "set/1.png").write_bytes(picture(11))
    second = open_probe_set(spec, memory=memory)
    assert looked_at == [("image", 1)]
    assert (second.images[0], second.images[2:]) == (first.images[0], first.images[2:])
    assert second.images[1].sha256 == hashlib.sha256(picture(11)).hexdigest()


def test_bytes_that_changed_under_an_old_time_are_found_when_they_are_used(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    spec, memory = folder(tmp_path / "set"), tmp_path / "cache"
    open_probe_set(spec, memory=memory)
    file = tmp_path / "set/0.png"
    told = file.stat()
    other = bytearray(picture(0))
    Image.fromarray(np.zeros((20, 24, 3), dtype=np.uint8)).save(changed := io.BytesIO(), "PNG")
    file.write_bytes(changed.getvalue().ljust(len(other), b"\0"))
    os.utime(file, ns=(told.st_atime_ns, told.st_mtime_ns))
    again = open_probe_set(spec, memory=memory)
    with pytest.raises(BadImage, match="has changed since the set was opened"):
        again.open(0)


@pytest.mark.parametrize("damage", [b"", b"no parquet"])
def test_a_damaged_memory_or_one_that_cannot_be_written_costs_time_alone(
    tmp_path: Path, looked_at: list[Any], damage: bytes
) -> None:
    (tmp_path / "set").mkdir()
    spec, memory = folder(tmp_path / "set"), tmp_path / "cache"
    first = open_probe_set(spec, memory=memory)
    (file,) = memory.iterdir()
    file.write_bytes(damage)
    assert open_probe_set(spec, memory=memory) == first
    assert len(looked_at) == 12
    (tmp_path / "file").write_bytes(b"")
    assert open_probe_set(spec, memory=tmp_path / "file" / "below") == first


def test_it_lies_in_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder("images") == tmp_path / "neuron-atlas" / "images"
