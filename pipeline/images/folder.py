"""Image files in a folder, or below an fsspec URL, with classes from sub-folders and metadata files."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from atlas_schema.store import Store, folder_of
from pipeline.images.classes import folder_classes
from pipeline.images.entry import Entry, Remark, Skipped, Source, address, known, stamp_of
from pipeline.images.metadata import id_of, metadata_of
from pipeline.images.naming import is_image


@dataclass(frozen=True)
class Folder(Source):
    """All image files of a store, however deep. A locator is the file's path in the store."""

    store: Store
    files: tuple[str, ...]  # what is listed there, without hidden files

    def entries(self) -> Iterator[Entry | Skipped | Remark]:
        images = [path for path in self.files if is_image(path)]
        ids = {id_of(path): path for path in images}
        rows, remarks = metadata_of(self.store, self.files, ids)
        facts = {path: known(rows.get(id_of(path), {})) for path in images}
        yield from remarks
        yield from _labelled(facts)
        for path in images:
            facts[path]["source"] = facts[path]["source"] or address(self.store, path)
            yield Entry(id=id_of(path), locator=path, **facts[path])
        for id in sorted(rows.keys() - ids.keys()):
            yield Skipped(id, "named in the metadata file, but there is no such image file")

    @property
    def place(self) -> tuple[str, ...]:
        return ("folder", self.store.url)

    def stamps(self, entries: Sequence[Entry]) -> list[str]:
        root = folder_of(self.store.url)
        if root is not None:  # file by file: a listing does not follow links
            return [stamp_of(os.path.join(root, entry.locator)) for entry in entries]
        found = self.store.stamps()
        return [found.get(entry.locator, "") for entry in entries]

    def read(self, locator: str) -> bytes:
        return self.store.read(locator)


def _labelled(facts: Mapping[str, dict[str, str]]) -> Iterator[Remark]:
    """Give images without a class that of their folder; what is to be said of those that still have none."""
    classes = folder_classes(facts)
    for path, label in classes.labels.items():
        facts[path]["label"] = facts[path]["label"] or label
    if classes.remark and not all(row["label"] for row in facts.values()):
        yield Remark(classes.remark)
