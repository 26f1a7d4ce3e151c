"""Decoded images kept for a run: the same pixels, decoded once, by processes that share them and within bounds."""

from __future__ import annotations

import multiprocessing
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from atlas_schema.errors import BadImage
from pipeline.images.pixel_cache import PixelCache, sweep
from pipeline.images.probe_set import ProbeSet, batches, open_probe_set
from pipeline.models import ModelRequest, describe

VIT = describe(ModelRequest("zoo/vit"))  # 64 x 64
RECORD = 64 * 64 * 3


@pytest.fixture
def pictures(tmp_path: Path) -> ProbeSet:
    """Twelve JPEGs of several shapes."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    drawn = np.random.default_rng(0)
    for number in range(12):
        side = 60 + 7 * number
        picture = Image.fromarray(drawn.integers(0, 256, (side, 100, 3), dtype=np.uint8))
        picture.save(folder / f"{number:02}.jpg")
    return open_probe_set(str(folder))


def cached(probe_set: ProbeSet, tmp_path: Path, **options) -> ProbeSet:
    return replace(probe_set, cache=PixelCache("test", parent=tmp_path, **options))


def pixels(probe_set: ProbeSet, description=VIT) -> torch.Tensor:
    return torch.cat([some for _, some in batches(probe_set, range(len(probe_set)), description, 5)])


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The indices of the images that are decoded from now on."""
    seen: list[int] = []
    decode = ProbeSet.open

    def open_(self: ProbeSet, index: int) -> Image.Image:
        seen.append(index)
        return decode(self, index)

    monkeypatch.setattr(ProbeSet, "open", open_)
    return seen


def test_a_second_pass_decodes_nothing_and_sees_the_same_bits(pictures, tmp_path, monkeypatch) -> None:
    plain = pixels(pictures)
    seen = counted(monkeypatch)
    assert torch.equal(pixels(cached(pictures, tmp_path)), plain)
    assert sorted(seen) == list(range(12))
    seen.clear()
    assert torch.equal(pixels(cached(pictures, tmp_path)), plain), "also by another cache of the same name"
    assert seen == []


def test_sizes_and_resampling_are_kept_apart(pictures, tmp_path) -> None:
    shared = cached(pictures, tmp_path)
    for description in (VIT, replace(VIT, interpolation="nearest"), replace(VIT, input_size=(32, 48))):
        plain = pixels(pictures, description)
        assert torch.equal(pixels(shared, description), plain)
        assert torch.equal(pixels(shared, description), plain)
    assert not torch.equal(pixels(shared), pixels(shared, replace(VIT, interpolation="nearest")))


def test_another_set_of_as_many_images_has_its_own(pictures, tmp_path) -> None:
    pixels(cached(pictures, tmp_path))
    folder = tmp_path / "others"
    folder.mkdir()
    for number in range(12):
        Image.new("RGB", (80, 80), (number, 0, 200)).save(folder / f"{number:02}.png")
    others = open_probe_set(str(folder))
    assert torch.equal(pixels(cached(others, tmp_path)), pixels(others))


def test_a_bounded_cache_keeps_what_it_may_and_the_pixels_are_right(pictures, tmp_path, monkeypatch) -> None:
    plain, bounded = pixels(pictures), cached(pictures, tmp_path, most=5 * RECORD + 7)
    assert torch.equal(pixels(bounded), plain)
    seen = counted(monkeypatch)
    assert torch.equal(pixels(bounded), plain)
    assert sorted(seen) == list(range(5, 12))
    other = replace(VIT, interpolation="nearest")  # for which there is no room at all
    assert torch.equal(pixels(bounded, other), pixels(pictures, other))
    files = sum(path.stat().st_size for path in (tmp_path / "atlas-pixels-test").glob("*.pixels"))
    assert files <= 5 * RECORD + 7


def test_a_full_disk_or_a_folder_that_cannot_be_made_means_decoding(pictures, tmp_path, monkeypatch) -> None:
    plain = pixels(pictures)
    (tmp_path / "atlas-pixels-test").write_text("in the way")
    assert torch.equal(pixels(cached(pictures, tmp_path)), plain)
    (tmp_path / "atlas-pixels-test").unlink()
    full = cached(pictures, tmp_path)
    written = os.pwrite

    def no_space(file: int, data: bytes, at: int) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.pwrite", no_space)
    assert torch.equal(pixels(full), plain)
    monkeypatch.setattr("os.pwrite", lambda file, data, at: written(file, data[: len(data) // 2], at))
    assert torch.equal(pixels(full), plain), "half a record is no record"
    monkeypatch.undo()
    assert torch.equal(pixels(full), plain)


def test_a_damaged_image_is_still_named(pictures, tmp_path) -> None:
    shared = cached(pictures, tmp_path)
    (Path(pictures.spec) / "03.jpg").write_bytes(b"no image")
    with pytest.raises(BadImage, match=r"03\.jpg"):
        pixels(shared)


def _pass(probe_set: ProbeSet, folder: Path, start, answers) -> None:
    start.wait()
    answers.put([pixels(cached(probe_set, folder)).double().sum().item() for _ in range(20)])


@pytest.mark.slow
def test_processes_share_it_at_once(pictures, tmp_path) -> None:
    context = multiprocessing.get_context("spawn")
    start, answers = context.Event(), context.Queue()
    both = [context.Process(target=_pass, args=(pictures, tmp_path, start, answers)) for _ in range(2)]
    for process in both:
        process.start()
    start.set()
    sums = [one for _ in both for one in answers.get(timeout=120)]
    for process in both:
        process.join(timeout=60)
    assert sums == [pixels(pictures).double().sum().item()] * 40
    assert torch.equal(pixels(cached(pictures, tmp_path)), pixels(pictures))


def test_what_killed_runs_left_is_removed_and_what_is_in_use_is_not(pictures, tmp_path) -> None:
    left = tmp_path / "atlas-pixels-left"
    left.mkdir()
    (left / "lock").touch()
    (left / "a.pixels").write_bytes(b"x" * 100)
    shared = cached(pictures, tmp_path)
    pixels(shared)
    sweep(tmp_path, keep="left")
    assert left.exists(), "the run that it belongs to goes on, with no worker here at the moment"
    sweep(tmp_path)
    assert not left.exists()
    assert shared.cache is not None
    assert shared.cache.folder.exists()
    shared.cache.remove()
    assert not shared.cache.folder.exists()
    assert torch.equal(pixels(shared), pixels(pictures))
