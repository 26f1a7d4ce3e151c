"""Reading a dataset's shards for the sections of the site: what footers tell, and rows as lists."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from atlas_schema.columns import Table
from atlas_schema.errors import ShardCorrupt
from atlas_schema.parquet import damage, digest_of, read_footer, require_version
from atlas_schema.read import Atlas
from atlas_schema.shards import shard_path


def footer_of(atlas: Atlas, shard: str) -> pq.FileMetaData:
    """The footer of the shard at this path. Raises FileNotFoundError, ShardCorrupt."""
    with atlas.store.open(shard) as file:
        try:
            footer = pq.ParquetFile(file).metadata
        except (OSError, ValueError) as error:
            raise ShardCorrupt(f"{shard}: its footer cannot be read ({error}). Run the stage again", shard) from error
    require_version(footer, shard)
    return footer


def content_of(atlas: Atlas, path: str) -> bytes:
    """What stands for the content of a shard: the digest in its footer, which is that of the whole file; only of a file
    that names none the bytes themselves. Raises FileNotFoundError, ShardCorrupt.
    """
    return digest_of(read_footer(atlas.store, path)).encode() or atlas.store.read(path)


def layer_footer(
    atlas: Atlas, table: Table, slug: str, layer: int, layers: int
) -> tuple[str, pq.FileMetaData] | tuple[None, None]:
    """Path and footer of a layer's shard of a table; None twice where the atlas has none."""
    path = shard_path(table, slug, layer, layers)
    try:
        return path, footer_of(atlas, path)
    except FileNotFoundError:
        return None, None


def bytes_of(footer: pq.FileMetaData, leaf: str) -> int:
    """Bytes of a column as they are stored."""
    return sum(column.total_compressed_size for column in _leaves(footer, leaf))


def largest_of(footer: pq.FileMetaData, leaf: str) -> int:
    """Largest value of a column of whole numbers; 0 where it has none."""
    found = [column.statistics for column in _leaves(footer, leaf)]
    return max((said.max for said in found if said is not None and said.has_min_max), default=0)


def ends_of(footer: pq.FileMetaData, leaf: str) -> set[Any]:
    """The least and the greatest value of a column in each row group, as far as the footer says."""
    found = [column.statistics for column in _leaves(footer, leaf)]
    return {end for said in found if said is not None and said.has_min_max for end in (said.min, said.max)}


def values_of(footer: pq.FileMetaData, leaf: str) -> int:
    """Rows of a plain column that have a value; all of them where the footer does not say."""
    return sum(
        column.num_values - (column.statistics.null_count or 0 if column.statistics is not None else 0)
        for column in _leaves(footer, leaf)
    )


def count_rows(atlas: Atlas, table: Table, slug: str) -> int:
    """Rows of a table that has one shard a model; 0 where the atlas lacks the shard. Raises ShardCorrupt."""
    path = shard_path(table, slug)
    if not atlas.store.exists(path):
        return 0
    with atlas.store.open(path) as file, damage(path):
        footer = pq.ParquetFile(file).metadata
        require_version(footer, path)
        return int(footer.num_rows)


def lists_of(rows: pa.Table) -> dict[str, list[Any]]:
    """A table as lists, one a column."""
    return {name: rows.column(name).to_pylist() for name in rows.column_names}


def _leaves(footer: pq.FileMetaData, leaf: str) -> list[pq.ColumnChunkMetaData]:
    groups = [footer.row_group(i) for i in range(footer.num_row_groups)]
    columns = [group.column(i) for group in groups for i in range(group.num_columns)]
    return [column for column in columns if column.path_in_schema == leaf]
