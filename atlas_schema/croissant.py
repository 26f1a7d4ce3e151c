"""What an atlas holds in Croissant 1.1, the JSON-LD that tells search engines and loaders what a data set is.

A record set is a table, a field a column with its sentence, a file set the shards of a table: all from the declarations
in `tables.py`. The licences are the card's.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from atlas_schema.card import held_tables, limits, own_licence, shown_licences
from atlas_schema.citing import TITLE, bibtex
from atlas_schema.columns import IMAGE, SCHEMA_VERSION, Column, Table
from atlas_schema.errors import NothingThere
from atlas_schema.published import HubUrl, hub_url
from atlas_schema.read import Atlas
from atlas_schema.store import Store

CROISSANT = "croissant.json"  # where `push` lays it, beside the card
VERSION = "http://mlcommons.org/croissant/1.1"
_CC_BY = "https://creativecommons.org/licenses/by/4.0/"
_REPOSITORY = "repository"  # the @id of the file object that the shards lie in

_TERMS = (
    *("arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "extract", "field", "fileProperty"),
    *("fileObject", "fileSet", "format", "includes", "isArray", "isLiveDataset", "jsonPath", "key", "md5"),
    *("parentField", "path", "recordSet", "references", "regex", "repeated", "replace", "samplingRate", "separator"),
    *("source", "subField", "transform"),
)
#: The vocabulary of Croissant 1.1, as its specification asks each document to say it.
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    **{name: f"cr:{name}" for name in _TERMS},
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"},
    "sc": "https://schema.org/",
}
#: Arrow's scalar types in Croissant's words. It has none for bytes: they are called text, as the Hub does.
_TYPES = {
    "string": "sc:Text",
    "binary": "sc:Text",
    "bool": "sc:Boolean",
    "int16": "cr:Int16",
    "int32": "cr:Int32",
    "int64": "cr:Int64",
    "float": "cr:Float32",
    "timestamp[us, tz=UTC]": "sc:DateTime",
}


def croissant_text(store: Store, url: str = "") -> str:
    """The description of the atlas in `store` as JSON.

    url: where it is published, `hf://datasets/ORG/NAME@REVISION`, and its files are then named there; "": files are
    named as they lie in the atlas, so that the description is read beside the card. Equal atlases give equal text.
    Raises NothingThere where the atlas holds no model.
    """
    return json.dumps(croissant(store, url), indent=1, ensure_ascii=False) + "\n"


def croissant(store: Store, url: str = "") -> dict[str, Any]:
    """The same before it is made text."""
    atlas, hub = Atlas(store), hub_url(url)
    models = atlas.models()
    if not models:
        raise NothingThere(f"{store.url}: holds no model to describe; `neuron-atlas run` makes one")
    tables = held_tables(store)
    described = f"FFN neurons and attention heads of {', '.join(model['slug'] for model in models)}"
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": VERSION,
        "name": hub.repository.partition("/")[2] if hub else "neuron-atlas",
        "description": f"{TITLE}: {described}. What each table and column means is said at it.",
        "url": _page(hub) if hub else url or "README.md",
        "license": _licences(models, shown_licences(atlas)),
        "version": SCHEMA_VERSION,
        "creator": {"@type": "sc:Organization", "name": hub.repository.partition("/")[0] if hub else _CREATOR},
        **_dated(models),
        "keywords": ["interpretability", "feature visualization", "vision transformer"],
        "citeAs": bibtex(url or "PATH-OR-URL"),
        "rai:dataLimitations": limits(),
        "distribution": [*_repository(hub), *(_file_set(table, hub) for table in tables)],
        "recordSet": [_record_set(table) for table in tables],
    }


_CREATOR = "The makers of this atlas"


def _page(hub: HubUrl) -> str:
    return f"https://huggingface.co/datasets/{hub.repository}"


def _licences(models: Sequence[Mapping[str, Any]], shown: Iterable[str | None]) -> list[str]:
    """The dataset's own licence first, then what weights and thumbnails add to it, each once."""
    of_models = [(f"weights of {model['slug']}", model["licence"]) for model in models]
    others = [*of_models, *(("thumbnails of probe images", licence) for licence in shown)]
    told = [f"{of}: {licence or 'licence not stated'}" for of, licence in others if not own_licence(licence)]
    return [_CC_BY, *told]


def _dated(models: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """When the last stage was begun; nothing where none was."""
    begun: list[dt.datetime] = [stage["started"] for model in models for stage in model["stages"] if stage["started"]]
    return {"datePublished": max(begun).date().isoformat()} if begun else {}


def _repository(hub: HubUrl | None) -> list[dict[str, Any]]:
    if hub is None:
        return []
    revision = hub.revision or "main"
    return [
        {
            "@type": "cr:FileObject",
            "@id": _REPOSITORY,
            "name": _REPOSITORY,
            "description": f"The repository of the dataset at revision {revision}",
            "contentUrl": f"{_page(hub)}/tree/{revision}",
            "encodingFormat": "git+https",
            # a digest is asked for; of a repository it is its revision that tells what was read
            "sha256": "https://github.com/mlcommons/croissant/issues/80",
        }
    ]


def _file_set(table: Table, hub: HubUrl | None) -> dict[str, Any]:
    inside = {"containedIn": {"@id": _REPOSITORY}} if hub else {}
    return {
        "@type": "cr:FileSet",
        "@id": _files(table),
        "name": _files(table),
        "description": f"The Parquet files of the table {table.name}",
        **inside,
        "encodingFormat": "application/x-parquet",
        "includes": f"{table.name}/*/*.parquet",
    }


def _files(table: Table) -> str:
    return f"{table.name}-files"


def _record_set(table: Table) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": table.name,
        "name": table.name,
        "description": f"A row is {table.row}.",
        "key": [{"@id": f"{table.name}/{name}"} for name in table.key],
        "field": [_field(table, column) for column in table.columns],
    }


def _field(table: Table, column: Column) -> dict[str, Any]:
    notes = [f" ({column.unit})"] if column.unit else []
    notes += [f"; empty: {column.absent}"] if column.absent else []
    return {
        **_typed(table, column, f"{table.name}/{column.name}", column.type, []),
        "description": column.means + "".join(notes),
    }


def _typed(table: Table, column: Column, name: str, arrow: pa.DataType, path: Sequence[str]) -> dict[str, Any]:
    """A field or a field of a field: its type, and where in a cell of the column it lies."""
    field: dict[str, Any] = {"@type": "cr:Field", "@id": name, "name": name.rpartition("/")[2]}
    shape, inner = 0, arrow
    while pa.types.is_list(inner):
        shape, inner = shape + 1, inner.value_type
    if shape:
        field |= {"isArray": True, "arrayShape": ",".join(["-1"] * shape)}
    if inner == IMAGE:
        return field | {"dataType": "sc:ImageObject", "source": _source(table, column, [*path, "bytes"])}
    if not pa.types.is_struct(inner):
        return field | {"dataType": _TYPES[str(inner)], "source": _source(table, column, path)}
    deeper = [*path[:-1], path[-1] + "[*]"] if shape and path else list(path)
    own = [_typed(table, column, f"{name}/{one.name}", one.type, [*deeper, one.name]) for one in inner]
    return field | {"subField": own}


def _source(table: Table, column: Column, path: Sequence[str]) -> dict[str, Any]:
    transform = {"transform": {"jsonPath": ".".join(path)}} if path else {}
    return {"fileSet": {"@id": _files(table)}, "extract": {"column": column.name}, **transform}
