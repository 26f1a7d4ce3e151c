"""Columns by their bytes: the same rows as Arrow reads, in few requests, and without a thread of Arrow's."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from atlas_schema.errors import ShardCorrupt
from atlas_schema.parquet import read_footer
from atlas_schema.parquet_columns import MOST_GAP, read_columns, read_rows
from atlas_schema.shards import shard_path
from atlas_schema.store import Store
from atlas_schema.tables import NEURONS
from tests.atlas_schema.made_atlas import SLUG, make_atlas

PATH = shard_path(NEURONS, SLUG, 0, 2)
LEAF_SETS = [None, ["unit"], ["unit", "verdict"], ["image"], ["image.path", "unit"], ["nothing of that name"], []]
# What an atlas is read by, in a store that Python opens; each line is followed by how many threads of the process are
# there beyond Python's own, compared with before.
READS = """
import pathlib, threading, time
from atlas_schema.card import write_card
from atlas_schema.lookup import encode_lookup
from atlas_schema.parquet import decode
from atlas_schema.read import Atlas
from atlas_schema.store import Store
from atlas_schema.validate import validate
from pipeline.images.metadata import _table
from tests.atlas_schema.made_atlas import SLUG, make_atlas
from tests.atlas_schema.test_parquet_columns import PATH

def others():
    names = [one.read_text().strip() for one in pathlib.Path("/proc/self/task").glob("*/comm")]
    return len(names) - names.count("jemalloc_bg_thd") - threading.active_count()  # Arrow's memory is jemalloc's

def fewest(seconds):
    "A thread of Python's that has ended takes a moment to go."
    until, least = time.monotonic() + seconds, others()
    while time.monotonic() < until:
        time.sleep(0.02)
        least = min(least, others())
    return least

store = make_atlas(Store("memory://threads"))
atlas, encoded, before = Atlas(store), store.read(PATH), fewest(2)
for said in (
    "atlas.neuron(f'{SLUG}/mlp/0/3')", "atlas.neurons(SLUG, 0)", "atlas.models()", "atlas.sites(SLUG)",
    "atlas.picture(f'{SLUG}/mlp/0/3')", "atlas.picture_locations(SLUG, 0)", "atlas.examples(SLUG, 0)",
    "decode(encoded, PATH)", "encode_lookup(encoded, PATH)", "validate(store)", "validate(store, deep=True)",
    "write_card(store)", "_table(encoded)",
):
    eval(said)
    until = time.monotonic() + 10
    while others() != before and time.monotonic() < until:
        time.sleep(0.02)
    print(others() - before, said)
"""


@pytest.fixture
def stores(tmp_path: Path) -> tuple[Store, Store]:
    """One atlas in a folder, and its shard of neurons in a store that Python opens."""
    here, there = make_atlas(Store(tmp_path / "atlas")), Store("memory://columns")
    there.replace(PATH, here.read(PATH))
    return here, there


@pytest.mark.parametrize("columns", LEAF_SETS, ids=str)
def test_the_rows_are_those_that_arrow_reads_from_the_file(
    stores: tuple[Store, Store], tmp_path: Path, columns: list[str] | None
) -> None:
    whole = pq.ParquetFile(tmp_path / "atlas" / PATH)
    for store in stores:
        footer = read_footer(store, PATH)
        assert read_columns(store, PATH, footer, columns).equals(whole.read(columns=columns))
        assert read_columns(store, PATH, footer, columns, [0]).equals(whole.read_row_group(0, columns=columns))
        assert read_columns(store, PATH, footer, columns, []).num_rows == 0


class Counted(Store):
    """Remembers what was asked of it: (first byte, how many)."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.asked: list[tuple[int, int]] = []

    def read_range(self, path: str, offset: int, length: int) -> bytes:
        self.asked.append((offset, length))
        return super().read_range(path, offset, length)


@pytest.fixture
def counted() -> tuple[Counted, pa.Table]:
    """Three groups of ten rows, in which a big column lies between small ones; and the rows."""
    store, written = Counted("memory://counted"), io.BytesIO()
    rows = pa.table({"a": range(30), "big": [bytes(MOST_GAP)] * 30, "b": range(30), "c": range(30)})
    pq.write_table(rows, written, row_group_size=10, compression="none", use_dictionary=False)
    store.replace("file.parquet", written.getvalue())
    return store, rows


def test_neighbours_come_in_one_request_and_what_lies_far_between_in_none(counted: tuple[Counted, pa.Table]) -> None:
    store, rows = counted
    footer = read_footer(store, "file.parquet")
    store.asked.clear()
    assert read_columns(store, "file.parquet", footer, ["a", "b", "c"]).equals(rows.select(["a", "b", "c"]))
    assert len(store.asked) == 4, "what precedes the first big column, lies between two, and follows the last"
    assert sum(length for _, length in store.asked) < MOST_GAP
    store.asked.clear()
    assert read_columns(store, "file.parquet", footer).equals(rows)
    assert len(store.asked) == 1


def test_only_row_groups_that_may_hold_a_value_are_read(counted: tuple[Counted, pa.Table]) -> None:
    store, rows = counted
    footer = read_footer(store, "file.parquet")
    store.asked.clear()
    assert read_rows(store, "file.parquet", footer, {"a": 13}).equals(rows.slice(10, 10))
    assert sum(length for _, length in store.asked) < 11 * MOST_GAP, "one group of three"
    store.asked.clear()
    assert read_rows(store, "file.parquet", footer, {"a": 99}).num_rows == 0
    assert store.asked == []


def test_damage_names_the_file(stores: tuple[Store, Store]) -> None:
    for store in stores:
        data = bytearray(store.read(PATH))
        footer = read_footer(store, PATH)
        chunk = footer.row_group(0).column(0)
        data[chunk.data_page_offset + chunk.total_compressed_size // 2] ^= 0xFF
        store.replace(PATH, bytes(data))
        with pytest.raises(ShardCorrupt, match=PATH):
            read_columns(store, PATH, footer)
        store.replace(PATH, bytes(data[: chunk.data_page_offset]))
        with pytest.raises(ShardCorrupt, match=PATH):
            read_columns(store, PATH, footer)
        store.delete(PATH)
        with pytest.raises(FileNotFoundError):
            read_columns(store, PATH, footer)


def test_no_thread_of_arrows_is_left_to_abort_the_process_as_it_ends() -> None:
    done = subprocess.run([sys.executable, "-c", READS], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    told = done.stdout.splitlines()
    assert len(told) >= 13
    assert [line for line in told if not line.startswith("0 ")] == []
