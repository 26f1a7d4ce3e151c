"""Which columns of a table hold the image and what is known of it: one rule for Parquet files and the hub."""

from collections.abc import Mapping
from typing import Any

from datasets import ClassLabel, Features, Image, Value

from atlas_schema.errors import BadConfig, BadImage
from pipeline.images.entry import FIELDS, known

USUAL = ("image", "img", "picture", "jpg", "png")
"""The image's column where a table has several that could be, the first of these that is one."""


def image_column(features: Features, wanted: str, where: str) -> str:
    """The column with the images: the wanted one, else the only one that can be. BadConfig where it cannot be told."""
    possible = [name for name, feature in features.items() if _holds_files(feature)]
    if wanted and wanted not in possible:
        raise BadConfig(
            f"{where}: column {wanted!r} holds no images. {_listed('Columns that do', possible)} "
            f"{_listed('All columns', list(features))}"
        )
    usual = [name for name in USUAL if name in possible]
    chosen = [wanted] if wanted else usual[:1] or possible
    if len(chosen) != 1:
        raise BadConfig(
            f"{where}: expected one column of images (a struct of bytes and path, or binary). "
            f"{_listed('Columns that can be', possible)} {_listed('All columns', list(features))} "
            "Name it image, or use hf:NAME:SPLIT:IMAGE_COLUMN."
        )
    return chosen[0]


def known_columns(features: Features) -> list[str]:
    """The columns that say something of the image; a table's only column of classes is its label."""
    names = {column for columns in FIELDS.values() for column in columns}
    classes = [name for name, feature in features.items() if isinstance(feature, ClassLabel)]
    return [name for name in features if (name in names and not _holds_files(features[name])) or [name] == classes]


def known_of(features: Features, row: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords of an Entry from the known columns of one row, class numbers turned into names."""
    told = {}
    for name, value in row.items():
        feature = features[name]
        if isinstance(feature, ClassLabel):
            name = name if name in FIELDS["label"] else "label"
            value = feature.int2str(value) if value is not None and value >= 0 else None
        told[name] = value
    return known(told)


def bytes_of(cell: Any) -> bytes:
    """The image file in a cell: bytes, or a struct of bytes and path. BadImage where there are none."""
    path = None
    if isinstance(cell, Mapping):
        cell, path = cell.get("bytes"), cell.get("path")
    if cell is None:
        raise BadImage(f"only a path is given, {path}, and no bytes" if path else "the row has no image")
    return bytes(cell)


def _holds_files(feature: Any) -> bool:
    if isinstance(feature, Value):
        return feature.dtype in ("binary", "large_binary")
    return isinstance(feature, Image) or (isinstance(feature, dict) and {"bytes", "path"} <= feature.keys())


def _listed(what: str, names: list[str]) -> str:
    return f"{what}: {', '.join(names) or 'none'}."
