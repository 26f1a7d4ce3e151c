"""Reading an atlas: models, sites and runs as rows, neurons by address, pictures by place.

    atlas = Atlas("demo/atlas")
    row = atlas.neuron("zoo-vit/mlp/3/17")
    webp = atlas.picture(row["address"])

Nothing reads more than it needs, in a folder and over the network alike: a neuron costs the shard's footer and
one row group of the wanted columns, a picture the footer and one page of 16 pictures. Of a published atlas (`push`)
both cost a short read each, by the layer's look-up.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from atlas_schema.address import HeadAddress, NeuronAddress
from atlas_schema.citing import bibtex
from atlas_schema.columns import Table
from atlas_schema.errors import AtlasError, BadConfig, NothingThere, nearest
from atlas_schema.lookup import Lookup, read_lookup
from atlas_schema.neuron_card import SHOWN, Neuron
from atlas_schema.pages import picture_in_page
from atlas_schema.parquet import check_whole, conformed, decode, read_footer, require_version
from atlas_schema.parquet_columns import read_columns
from atlas_schema.pictures import picture_places
from atlas_schema.published import opened
from atlas_schema.searching import best_first
from atlas_schema.shards import parse_shard_path, shard_path
from atlas_schema.store import Store
from atlas_schema.tables import (
    HEAD_FEATURES,
    HEAD_TEXTS,
    HEADS,
    INVERSION_READINGS,
    INVERSIONS,
    MODELS,
    NEURON_EXAMPLES,
    NEURON_MATCHES,
    NEURON_PICTURES,
    NEURONS,
    PROBE_IMAGES,
    RUNS,
    SITES,
)

MOST_LOOKUPS = 64  # heads of look-ups that are held, about a megabyte each of a large layer


class Atlas:
    """A dataset of this project, in a folder or at an fsspec URL, read only.

    `hf://datasets/ORG/NAME` is read at the commit that `revision` (a tag, a branch; main) is when it is opened, and
    what is read of it is kept in the folder `cache` (None: the user's). `https://` URLs are what `push` wrote to a
    folder that a web server shows. Raises BadConfig, NothingThere for a repository or revision that is not there.
    """

    def __init__(
        self, url: str | Store, revision: str | None = None, *, cache: str | os.PathLike[str] | None = None
    ) -> None:
        self.store = url if isinstance(url, Store) else opened(os.fspath(url), revision, cache)
        self._layers: dict[str, dict[int, str]] = {}
        self._counts: dict[str, int] = {}  # FFN layers of a model
        self._lookups: dict[str, Lookup | None] = {}

    def citation(self) -> str:
        """BibTeX of the atlas: of a repository of the Hub with the commit that is read. No request."""
        return bibtex(self.store.url)

    def models(self) -> list[dict[str, Any]]:
        """All rows of the models table, sorted by slug."""
        return self._small(MODELS, None)

    def sites(self, slug: str) -> list[dict[str, Any]]:
        """The attention and FFN sites of one model, by kind and layer; NothingThere for an unknown slug."""
        rows = self._small(SITES, slug)
        if not rows:
            raise self._no_model(slug, "sites")
        return rows

    def runs(self) -> list[dict[str, Any]]:
        """All rows of the runs table, the earliest first."""
        return sorted(self._small(RUNS, None), key=lambda row: (row["started"], row["run_id"]))

    def layers(self, slug: str) -> list[int]:
        """The layers of which neurons can be read, asked anew each time."""
        self._layers[slug] = self._neuron_shards(slug)
        return sorted(self._layers[slug])

    def neuron(self, address: NeuronAddress | str, columns: Sequence[str] | None = None) -> Neuron:
        """The row of one neuron, a dictionary that notebooks show as a card: `columns`, or all but the image.

        Raises BadAddress, NothingThere naming what is missing, BadConfig for an unknown column, ShardCorrupt.
        """
        address = NeuronAddress.parse(address) if isinstance(address, str) else address
        names = _columns(columns)
        row = self._looked_up(address, names)
        if row is None:
            row = self._row(address, names)
        return Neuron(row, lambda: self.picture_or_none(address), lambda: self.exciting([address])[address])

    def _row(self, address: NeuronAddress, names: Sequence[str]) -> dict[str, Any]:
        """The row of one neuron from its shard."""
        path = self._path(address)
        footer = self._footer(path)
        group = _row_group_of(footer, address.unit)
        if group is not None:
            rows = read_columns(self.store, path, footer, list(dict.fromkeys(["unit", *names])), [group])
            rows = rows.filter(pc.equal(rows["unit"], address.unit))
            if rows.num_rows:
                row: dict[str, Any] = _as_today(rows.slice(0, 1), names).to_pylist()[0]
                return row
        raise NothingThere(f"{address}: the atlas holds layer {address.layer} but not this unit ({_span(footer)})")

    def _footer(self, path: str) -> pq.FileMetaData:
        """The footer of a shard that this code can read. Raises FileNotFoundError, ShardCorrupt, ForeignAtlas."""
        footer = read_footer(self.store, path)
        require_version(footer, path)
        return footer

    def neurons(self, slug: str, layer: int, columns: Sequence[str] | None = None) -> pa.Table | None:
        """All neurons of a layer by unit: `columns`, or all but the image; None where no shard is there."""
        path = self._find(slug, layer)
        return None if path is None else self._read(path, _columns(columns), NEURONS)

    def pictures(self, slug: str, layer: int, columns: Sequence[str] | None = None) -> pa.Table | None:
        """All rows of neuron_pictures of a layer, images among them; None where no further pictures were made."""
        return self._layer_table(NEURON_PICTURES, slug, layer, columns)

    def examples(self, slug: str, layer: int, columns: Sequence[str] | None = None) -> pa.Table | None:
        """All rows of neuron_examples of a layer; None where the probe stage has not reached it."""
        return self._layer_table(NEURON_EXAMPLES, slug, layer, columns)

    def matches(self, slug: str, layer: int, columns: Sequence[str] | None = None) -> pa.Table | None:
        """All rows of neuron_matches of a layer; None where the match stage has not reached it."""
        return self._layer_table(NEURON_MATCHES, slug, layer, columns)

    def inversions(self, slug: str, columns: Sequence[str] | None = None) -> pa.Table | None:
        """All rows of inversions of a model, by address: `columns`, or all but the image; None where none were made."""
        path = shard_path(INVERSIONS, slug)
        if not self.store.exists(path):
            return None
        names = [name for name in INVERSIONS.names if name not in INVERSIONS.image_columns]
        return self._read(path, _columns(columns or names, INVERSIONS), INVERSIONS)

    def inversion_readings(self, slug: str) -> list[dict[str, Any]]:
        """What other models read off a model's inversions, by address and reader; [] where none was asked."""
        return self._small(INVERSION_READINGS, slug)

    def rows(self, table: Table, slug: str, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows of a model in a table that has one shard a model (heads, head_texts ...), by its key; none where the
        atlas lacks the shard. A column that came to the table after the shard was written has no values.

        Raises BadConfig for an unknown column, ShardCorrupt.
        """
        path, names = shard_path(table, slug), _columns(columns, table)
        if not self.store.exists(path):
            return pa.schema([table.column(name).field() for name in names]).empty_table()
        return self._read(path, names, table)

    def heads(self, slug: str) -> list[dict[str, Any]]:
        """The rows of all heads of a model, by layer and head; [] where none are described."""
        return self._small(HEADS, slug)

    def head_texts(self, slug: str) -> list[dict[str, Any]]:
        """The rows of head_texts of a model, by layer, head and rank; [] where none are described."""
        return self._small(HEAD_TEXTS, slug)

    def head(self, address: HeadAddress | str) -> dict[str, Any]:
        """The row of one head, with its rows of head_texts as `texts` and of head_features as `features`, by score.

        Raises BadAddress, NothingThere naming what is missing, ShardCorrupt.
        """
        address = HeadAddress.parse(address) if isinstance(address, str) else address
        place = (address.layer, address.head)
        rows = self.heads(address.slug)
        found = [row for row in rows if (row["layer"], row["head"]) == place]
        if not found:
            if rows:
                layers = _ranges(sorted({row["layer"] for row in rows}))
                raise NothingThere(f"{address}: no such head; the atlas holds layers {layers} of {address.slug}")
            self.sites(address.slug)  # says whether there is such a model
            raise NothingThere(f"{address}: heads of this model are not described; run the stage decompose first")
        texts, features = (
            [row for row in self._small(table, address.slug) if (row["layer"], row["head"]) == place]
            for table in (HEAD_TEXTS, HEAD_FEATURES)
        )
        features = sorted((row for row in features if row["kind"] == "head"), key=lambda row: -row["score"])
        return {**found[0], "texts": texts, "features": features}

    def probe_sets(self) -> list[str]:
        """Hashes of the probe sets whose images the atlas lists."""
        places = [parse_shard_path(path) for path in self.store.list(PROBE_IMAGES.name)]
        return sorted({place[1] for place in places if place})

    def probe_images(self, probe_set: str, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of probe_images of one set, by index. Raises NothingThere for an unknown set."""
        path = shard_path(PROBE_IMAGES, probe_set)
        if not self.store.exists(path):
            held = ", ".join(self.probe_sets()) or "none"
            raise NothingThere(f"{probe_set}: no such probe set in {self.store.url}; it holds {held}")
        return self._read(path, _columns(columns, PROBE_IMAGES), PROBE_IMAGES)

    def _layer_table(self, table: Table, slug: str, layer: int, columns: Sequence[str] | None) -> pa.Table | None:
        """A layer's rows of a table with as many shards as `neurons` has."""
        found = {
            place[2]: path for path in self.store.list(f"{table.name}/{slug}") if (place := parse_shard_path(path))
        }
        return self._read(found[layer], _columns(columns, table), table) if layer in found else None

    def _read(self, path: str, columns: Sequence[str], table: Table) -> pa.Table:
        return _as_today(read_columns(self.store, path, self._footer(path), columns), columns, table)

    def picture(self, address: NeuronAddress | str) -> bytes:
        """The WebP bytes of a neuron's visualization: one short read of a published atlas, else the shard's tail and
        one page of pictures.
        """
        address = NeuronAddress.parse(address) if isinstance(address, str) else address
        lookup = self._lookup(address)
        picture = lookup.picture(self.store, address.unit) if lookup and address.unit in lookup.pictures else None
        if picture is None:
            picture = picture_in_page(self.store, self._path(address), address.unit)
        if picture is None:
            held = self._row(address, ["image"])["image"]
            if held is None:
                raise NothingThere(f"{address}: no picture was made of this neuron (its status_reason says why)")
            picture = held["bytes"]
        return picture

    def search(self, text: str, *, model: str | None = None, limit: int | None = None) -> pa.Table:
        """Neurons whose label `text` finds ("": any label), as the site ranks labels (atlas_schema/searching.py), those
        of a label furthest above chance first, at most `limit`.

        Columns: address, label, label_z, label_q, label_auroc. Reads the labels of every layer (of one model, where
        it is named). NothingThere for an unknown model.
        """
        names = ["address", "label", "label_z", "label_q", "label_auroc"]
        slugs = [row["slug"] for row in self.models()] if model is None else [self.sites(model)[0]["slug"]]
        read = [self.neurons(slug, layer, names) for slug in slugs for layer in self.layers(slug)]
        empty = _as_today(NEURONS.schema().empty_table(), names)
        rows = pa.concat_tables([empty, *(own for own in read if own is not None)])
        found = best_first(rows, text, "label", "label_z")
        return found if limit is None else found.slice(0, limit)

    def _looked_up(self, address: NeuronAddress, names: Sequence[str]) -> dict[str, Any] | None:
        """The row of a neuron of a published atlas; None where the shard is to be read for it."""
        lookup = self._lookup(address) if "image" not in names else None
        if lookup is None or address.unit not in lookup.rows:
            return None
        row = lookup.row(self.store, address.unit)
        if row is None or row["address"] != str(address):  # the shard was replaced since
            del self._lookups[lookup.shard]
            return None
        return {name: row.get(name) for name in names}

    def _lookup(self, address: NeuronAddress) -> Lookup | None:
        """The look-up of a layer; of a folder none: a disk reads a page as fast."""
        if self.store.is_local:
            return None
        layers = self._layer_count(address.slug)
        if not address.layer < layers:
            return None
        path = shard_path(NEURONS, address.slug, address.layer, layers)
        if path not in self._lookups:
            if len(self._lookups) == MOST_LOOKUPS:
                del self._lookups[next(iter(self._lookups))]
            self._lookups[path] = read_lookup(self.store, path)
        return self._lookups[path]

    def _layer_count(self, slug: str) -> int:
        """How many FFN layers a model has; 0 where it is not there."""
        if slug not in self._counts:
            path = shard_path(MODELS, slug)
            try:
                encoded = self.store.read(path)
            except FileNotFoundError:
                return 0
            self._counts[slug] = decode(encoded, path)[0]["ffn_sites"][0].as_py()
        return self._counts[slug]

    def picture_or_none(self, address: NeuronAddress | str) -> bytes | None:
        """The picture, where one was made of the neuron."""
        try:
            return self.picture(address)
        except NothingThere:
            return None

    def exciting(
        self, addresses: Iterable[NeuronAddress | str], count: int = SHOWN
    ) -> dict[NeuronAddress, list[bytes]]:
        """WebP thumbnails of the images that excite each neuron most, the strongest first; [] where none are held.

        Each layer, and each set of images, is read once.
        """
        asked = [NeuronAddress.parse(one) if isinstance(one, str) else one for one in addresses]
        by_layer: dict[tuple[str, int], set[int]] = {}
        for one in asked:
            by_layer.setdefault((one.slug, one.layer), set()).add(one.unit)
        top: dict[NeuronAddress, list[tuple[str, int]]] = {}
        for (slug, layer), units in by_layer.items():
            rows = self.examples(slug, layer, ["unit", "kind", "rank", "image_index", "probe_set"])
            own = () if rows is None else rows.filter(pc.is_in(rows["unit"], pa.array(sorted(units)))).to_pylist()
            for row in sorted((row for row in own if row["kind"] == "top"), key=lambda row: row["rank"]):
                top.setdefault(NeuronAddress(slug, layer, row["unit"]), []).append(
                    (row["probe_set"], row["image_index"])
                )
        wanted = {place for places in top.values() for place in places[:count]}
        held: dict[tuple[str, int], bytes] = {}
        for probe_set in {name for name, _ in wanted} & set(self.probe_sets()):
            images = self.probe_images(probe_set, ["index", "thumbnail"])
            mine = pa.array(sorted(index for name, index in wanted if name == probe_set))
            for row in images.filter(pc.is_in(images["index"], mine)).to_pylist():
                if row["thumbnail"]:
                    held[probe_set, row["index"]] = row["thumbnail"]["bytes"]
        return {one: [held[place] for place in top.get(one, [])[:count] if place in held] for one in asked}

    def picture_locations(self, slug: str, layer: int) -> list[tuple[int, int, int]]:
        """(unit, offset, length) of every picture of a layer in its shard file, verified byte for byte.

        One Range request for these bytes is the picture. Reads the whole shard; empty where none is there.
        """
        path = self._find(slug, layer)
        if path is None:
            return []
        encoded = self.store.read(path)
        check_whole(encoded, path)
        return picture_places(encoded, path)

    def _small(self, table: Table, slug: str | None) -> list[dict[str, Any]]:
        rows = []
        for path in self.store.list(f"{table.name}/{slug}" if slug else table.name):
            if parse_shard_path(path):
                found = read_columns(self.store, path, self._footer(path))
                rows += _as_today(found, table.names, table).to_pylist()
        return sorted(rows, key=lambda row: tuple(row[name] for name in table.key))

    def _neuron_shards(self, slug: str) -> dict[int, str]:
        places = {path: parse_shard_path(path) for path in self.store.list(f"{NEURONS.name}/{slug}")}
        return {place[2]: path for path, place in places.items() if place}

    def _find(self, slug: str, layer: int) -> str | None:
        # A layer's path never changes: one that was seen is used again, another is looked for anew.
        if layer not in self._layers.get(slug, {}):
            self._layers[slug] = self._neuron_shards(slug)
        return self._layers[slug].get(layer)

    def _path(self, address: NeuronAddress) -> str:
        path = self._find(address.slug, address.layer)
        if path is not None:
            return path
        held = sorted(self._layers[address.slug])
        if not held:
            raise self._no_model(address.slug, "neurons")
        raise NothingThere(f"{address}: the atlas holds layers {_ranges(held)} of {address.slug}")

    def _no_model(self, slug: str, what: str) -> AtlasError:
        paths = [*self.store.list(MODELS.name), *self.store.list(NEURONS.name)]
        known = sorted({place[1] for place in map(parse_shard_path, paths) if place})
        if not known:
            return NothingThere(f"{self.store.url}: no atlas here: expected a folder with models/ and neurons/ in it")
        if slug in known:
            return NothingThere(f"{slug}: {self.store.url} has the model, but no {what} of it, or none so far")
        close = nearest(slug, known)
        hint = f"nearest: {', '.join(close)}" if close else f"it holds {', '.join(known[:8])}"
        return NothingThere(f"{slug}: no such model in {self.store.url}; {hint}")


def to_polars(table: pa.Table) -> Any:
    """An Arrow table as a polars DataFrame. BadConfig where polars is not installed."""
    try:
        import polars
    except ImportError:
        raise BadConfig("polars is not installed. `pip install polars`, or take table.to_pandas()") from None
    return polars.from_arrow(table)


def _columns(columns: Sequence[str] | None, table: Table = NEURONS) -> list[str]:
    if columns is None:
        return [column.name for column in table.columns if not (column.is_image and table is NEURONS)]
    for name in columns:
        if name not in table.names:
            close = nearest(name, table.names)
            raise BadConfig(f"{table.name}: no column {name!r}; expected one of {', '.join(close or table.names)}")
    return list(columns)


def _as_today(rows: pa.Table, columns: Sequence[str], table: Table = NEURONS) -> pa.Table:
    """The rows with these columns: what came to the table after the file was written is empty."""
    return conformed(rows, pa.schema([table.column(name).field() for name in columns]))


def _leaf(metadata: pq.FileMetaData, name: str) -> int:
    row_group = metadata.row_group(0)
    return next(i for i in range(row_group.num_columns) if row_group.column(i).path_in_schema == name)


def _row_group_of(metadata: pq.FileMetaData, unit: int) -> int | None:
    for group in range(metadata.num_row_groups):
        statistics = metadata.row_group(group).column(_leaf(metadata, "unit")).statistics
        if statistics.min <= unit <= statistics.max:
            return group
    return None


def _span(metadata: pq.FileMetaData) -> str:
    if not metadata.num_rows:
        return "the shard is empty"
    leaf = _leaf(metadata, "unit")
    statistics = [metadata.row_group(group).column(leaf).statistics for group in range(metadata.num_row_groups)]
    low, high = min(s.min for s in statistics), max(s.max for s in statistics)
    return f"it holds {metadata.num_rows} units between {low} and {high}"


def _ranges(numbers: Sequence[int]) -> str:
    """0, 1, 2, 5 -> '0-2, 5'."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
