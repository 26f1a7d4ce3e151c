"""Partials: arrays come back as they were, one by one, and damage is found."""

from __future__ import annotations

import dataclasses
import time
import tracemalloc

import numpy as np
import pyarrow as pa
import pytest

from atlas_schema import partials
from atlas_schema.errors import NothingThere, ShardCorrupt
from atlas_schema.partials import PIECE_BYTES, commit_partial, read_partial
from atlas_schema.parts import committed_units, part_path
from atlas_schema.store import Store
from atlas_schema.units import Images, WorkUnit
from atlas_schema.validate import validate
from tests.atlas_schema.made_atlas import FINGERPRINT, PROVENANCE, SLUG, make_atlas

UNIT = WorkUnit("probe", SLUG, Images(0, 250), FINGERPRINT, "0" * 16)
ARRAYS = {
    "0/moments": np.arange(12, dtype=np.float64).reshape(3, 4),
    "0/peak": np.array([[1.5, np.inf], [np.nan, -2]], dtype=np.float16),
    "1/none": np.empty((0, 7), dtype=np.int32),
    "large": np.arange(PIECE_BYTES // 4 + 1000, dtype=np.uint64).reshape(2, -1),
    "scalar": np.array(5, dtype=np.int64),
}


def test_arrays_come_back(folder: Store) -> None:
    receipt = commit_partial(folder, UNIT, ARRAYS, provenance=PROVENANCE)
    assert receipt.created
    assert receipt.path == part_path(UNIT)
    back = read_partial(folder, UNIT)
    assert sorted(back) == sorted(ARRAYS)
    for name, array in ARRAYS.items():
        assert back[name].dtype == array.dtype
        assert back[name].shape == array.shape
        np.testing.assert_array_equal(back[name], array)
    assert list(read_partial(folder, UNIT, ["scalar"])) == ["scalar"]
    assert not commit_partial(folder, UNIT, ARRAYS, provenance=PROVENANCE).created
    assert committed_units(folder, "probe", SLUG, UNIT.identity) == [UNIT]


def test_no_more_is_held_than_the_arrays_and_a_piece(folder: Store) -> None:
    """Reading takes the arrays' own bytes, and those of one piece beside."""
    names = [f"{index}/noise" for index in range(3)]
    draw = np.random.default_rng(0)
    arrays = {name: draw.integers(0, 255, 5 * PIECE_BYTES // 2, dtype=np.uint8) for name in names}
    commit_partial(folder, UNIT, arrays, provenance=PROVENANCE)
    size = sum(array.nbytes for array in arrays.values())
    tracemalloc.start()
    pool = pa.default_memory_pool()
    before = pool.bytes_allocated()
    try:
        back = read_partial(folder, UNIT)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < size + 1.5 * PIECE_BYTES  # as it lies in the file, with its page header
    deadline = time.monotonic() + 30  # Arrow's threads may let go of what they read last after it was given out
    while (held := pool.bytes_allocated() - before) > PIECE_BYTES / 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert held < PIECE_BYTES / 2, "neither an array nor a piece stays in Arrow's memory"
    assert all(back[name].flags.writeable and np.array_equal(back[name], arrays[name]) for name in names)


def test_a_piece_too_few_is_found(folder: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = partials._pieces
    monkeypatch.setattr(partials, "_pieces", lambda name, array: list(whole(name, array))[:1])
    commit_partial(folder, UNIT, ARRAYS, provenance=PROVENANCE)
    assert read_partial(folder, UNIT, ["scalar"])["scalar"] == 5
    with pytest.raises(ShardCorrupt, match="bytes of an array of"):
        read_partial(folder, UNIT)


def test_what_is_not_there_is_named(folder: Store) -> None:
    with pytest.raises(NothingThere, match="run the stage probe first"):
        read_partial(folder, UNIT)
    commit_partial(folder, UNIT, ARRAYS, provenance=PROVENANCE)
    with pytest.raises(NothingThere, match=r"no array '2/peak'.*0/moments"):
        read_partial(folder, UNIT, ["2/peak"])
    with pytest.raises(NothingThere, match="images 250 to 499"):
        read_partial(folder, dataclasses.replace(UNIT, cut=Images(250, 500)))


def test_a_damaged_byte_is_found_and_a_sound_copy_takes_its_place(folder: Store) -> None:
    path = commit_partial(folder, UNIT, ARRAYS, provenance=PROVENANCE).path
    encoded = bytearray(folder.read(path))
    encoded[len(encoded) // 2] ^= 1
    folder.replace(path, bytes(encoded))
    with pytest.raises(ShardCorrupt):
        read_partial(folder, UNIT)
    assert commit_partial(folder, UNIT, ARRAYS, provenance=PROVENANCE).created
    assert read_partial(folder, UNIT, ["scalar"])["scalar"] == 5


def test_validate_reads_partials(folder: Store) -> None:
    make_atlas(folder)
    path = commit_partial(folder, UNIT, ARRAYS, provenance=PROVENANCE).path
    assert validate(folder) == []
    folder.replace(path, folder.read(path)[:-1] + b"?")
    assert [(fault.path, fault.kind) for fault in validate(folder)] == [(path, "corrupt")]
