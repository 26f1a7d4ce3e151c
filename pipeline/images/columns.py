"""Which columns of a table hold the image and what is known of it: one rule for Parquet files and the hub."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datasets import ClassLabel, Features, Image, Value

from atlas_schema.errors import BadConfig, BadImage, nearest
from pipeline.images.choice import Choice
from pipeline.images.entry import FIELDS, known

USUAL = ("image", "img", "picture", "jpg", "png")
"""The image's column where a table has several that could be, the first of these that is one."""


@dataclass(frozen=True)
class Columns:
    """The columns of one table that are read."""

    features: Features
    image: str
    labels: tuple[str, ...]  # columns of classes: the first that is not empty in a row counts
    known: tuple[str, ...]  # all that say something of the image

    def facts(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The keywords of an Entry from the known columns of one row, class numbers turned into names."""
        names = (_class_name(self.features[column], row[column]) for column in self.labels)
        label = next((name for name in names if name not in (None, "")), None)
        return known({name: row[name] for name in self.known if name not in self.labels} | {"label": label})


def columns_of(features: Features, choice: Choice, where: str) -> Columns:
    """The columns that a choice names, else those that can only be meant. BadConfig where it cannot be told."""
    image = _image_column(features, choice.image, where)
    labels = _label_columns(features, choice.label, where)
    others = {column for field, names in FIELDS.items() if field != "label" for column in names}
    said = [name for name in features if name in labels or (name in others and not _holds_files(features[name]))]
    return Columns(features, image, tuple(labels), tuple(said))


def image_columns(features: Features) -> list[str]:
    """The columns that can hold images."""
    return [name for name, feature in features.items() if _holds_files(feature)]


def bytes_of(cell: Any) -> bytes:
    """The image file in a cell: bytes, or a struct of bytes and path. BadImage where there are none."""
    path = None
    if isinstance(cell, Mapping):
        cell, path = cell.get("bytes"), cell.get("path")
    if cell is None:
        raise BadImage(f"only a path is given, {path}, and no bytes" if path else "the row has no image")
    return bytes(cell)


def _image_column(features: Features, wanted: str, where: str) -> str:
    """The wanted column, else the only one that can be, else one of a usual name."""
    possible = image_columns(features)
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
            f"Name one: add #image={(possible or ['COLUMN'])[0]} to the name of the set."
        )
    return chosen[0]


def _label_columns(features: Features, wanted: str | None, where: str) -> list[str]:
    """The wanted column, else those of usual names, else the only column of classes."""
    if wanted:
        if wanted not in features or _holds_files(features[wanted]):
            raise BadConfig(
                f"{where}: there is no column of labels {wanted!r}. "
                f"{_listed('Nearest', nearest(wanted, features)[:1])} {_listed('All columns', list(features))}"
            )
        return [wanted]
    if wanted == "":
        return []
    usual = [name for name in FIELDS["label"] if name in features and not _holds_files(features[name])]
    classes = [name for name, feature in features.items() if isinstance(feature, ClassLabel)]
    if usual or len(classes) < 2:
        return usual or classes
    raise BadConfig(
        f"{where}: {len(classes)} columns hold classes ({', '.join(classes)}), and none is called label or class. "
        f"Say which is meant: add #label={classes[0]} to the name of the set, or #label= for none."
    )


def _class_name(feature: Any, value: Any) -> Any:
    """A class by name; None for no class, which datasets write as -1. A number without a name stays a number."""
    if not isinstance(feature, ClassLabel) or not isinstance(value, int):
        return value
    if value < 0:
        return None
    return feature.names[value] if value < len(feature.names) else value


def _holds_files(feature: Any) -> bool:
    if isinstance(feature, Value):
        return feature.dtype in ("binary", "large_binary")
    return isinstance(feature, Image) or (isinstance(feature, dict) and {"bytes", "path"} <= feature.keys())


def _listed(what: str, names: Sequence[str]) -> str:
    return f"{what}: {', '.join(names) or 'none'}."
