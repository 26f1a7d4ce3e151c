"""Folders and files of images as people have them, and the table of them in docs/probe-sets.md.

    python -m tests.pipeline.image_forms docs/probe-sets.md

Each form writes a few small files, and says what is expected; the table says what came of it.
"""

from __future__ import annotations

import errno
import io
import os
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from atlas_schema.card import markdown_table, plain
from atlas_schema.errors import AtlasError
from pipeline.images.probe_set import ProbeSet, open_probe_set
from pipeline.images.stored import FORMS as EXPECTED

BEGIN, END = "<!-- forms: python -m tests.pipeline.image_forms docs/probe-sets.md -->", "<!-- end of forms -->"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def picture(number: int) -> bytes:
    """A small PNG, another one for each number."""
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(number).integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def put(root: Path, *names: str) -> None:
    """Pictures of these names, all different."""
    for number, name in enumerate(names):
        write(root, name, picture(number + 100 * len(name)))


def write(root: Path, name: str, data: bytes | str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)


def pack(root: Path, name: str, members: dict[str, bytes], mode: str = "w") -> None:
    with tarfile.open(root / name, mode) as archive:
        for member, data in members.items():
            info = tarfile.TarInfo(member)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def table(count: int, **features: object) -> datasets.Dataset:
    """Rows of pictures, with columns of classes by name."""
    kinds = {"image": datasets.Image()} | features
    cells = [{"bytes": picture(number), "path": None} for number in range(count)]
    columns = {name: list(range(count)) for name in features}
    return datasets.Dataset.from_dict({"image": cells} | columns, features=datasets.Features(kinds))


def parquet(root: Path, name: str, count: int = 3, **features: object) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    data = table(count, **features)
    pq.write_table(data.with_format("arrow")[:], root / name)


@dataclass(frozen=True)
class Form:
    """A form: how it is written, and what is expected. Of texts, a part that has to be there."""

    what: str
    make: Callable[[Path], object]
    spec: str = "{}"
    images: int = 0
    classes: tuple[str, ...] = ()
    captions: int = 0
    skipped: dict[str, str] = field(default_factory=dict)  # by id, of the reason
    remarks: tuple[str, ...] = ()
    refused: str = ""  # of the message
    during: Callable[[Path], AbstractContextManager[object]] = lambda root: nullcontext()


def opened(form: Form, root: Path) -> ProbeSet | AtlasError:
    """The set that comes of a form written into a folder, or the refusal."""
    form.make(root)
    with form.during(root):
        try:
            return open_probe_set(form.spec.format(root))
        except AtlasError as error:
            return error


def verdict(found: ProbeSet | AtlasError, root: Path) -> str:
    """What came of it, in the words that a user is told, as Markdown."""
    if isinstance(found, AtlasError):
        text = str(found).partition(f" Expected {EXPECTED}")[0].partition(f"\nExpected {EXPECTED}")[0]
        return "refused: " + plain(text.replace(f"{root}/", "").replace(str(root), "FOLDER"))
    captions = sum(bool(image.caption) for image in found.images)
    parts = [f"{len(found)} image{'s' * (len(found) != 1)}"]
    parts += [f"classes {', '.join(found.classes)}"] if found.classes else []
    parts += [f"{captions} caption{'s' * (captions != 1)}"] if captions else []
    said = [f"{image.id}: {image.reason}" for image in found.skipped] + list(found.remarks)
    return ", ".join(parts) + "".join(f"; {plain(text)}" for text in said)


def links(root: Path) -> None:
    put(root, "../real/cat/0.png", "../real/dog/0.png")
    for name in ("cat", "dog"):
        os.symlink(f"../real/{name}", root / name)


def links_and_folders(root: Path) -> None:
    put(root, "cat/0.png", "../real/0.png")
    os.symlink("../real", root / "dog")


def links_to_files(root: Path) -> None:
    put(root, "../store/a.png", "../store/b.png")
    for name in ("a.png", "b.png"):
        os.symlink(f"../store/{name}", root / name)


def circle(root: Path) -> None:
    put(root, "cat/0.png", "dog/0.png")
    os.symlink("..", root / "cat" / "up")
    os.symlink(root.parent, root / "out")
    os.symlink("self", root / "self")


def same_twice(root: Path) -> None:
    put(root, "run-3/0.png")
    os.symlink("run-3", root / "latest")


def nowhere(root: Path) -> None:
    put(root, "a.png")
    os.symlink("gone.png", root / "b.png")
    os.symlink("c.png", root / "c.png")


def not_utf8(root: Path) -> None:
    put(root, "a.png")
    with open(os.fsencode(root) + b"/bad\xff.png", "wb") as file:
        file.write(picture(5))


@contextmanager
def closed(root: Path) -> Iterator[None]:
    """Its folder `b` may not be looked into, whoever looks."""
    scandir = os.scandir

    def refusing(path: str) -> object:
        if path == str(root / "b"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return scandir(path)

    with mock.patch("os.scandir", refusing):
        yield


def decomposed(root: Path) -> None:
    put(root, "e\N{COMBINING ACUTE ACCENT}te.png")
    write(root, "metadata.csv", "file_name,text\n\N{LATIN SMALL LETTER E WITH ACUTE}te.png,summer\n")


def damaged(root: Path) -> None:
    put(root, "a.png")
    write(root, "cut.png", picture(1)[:200])
    write(root, "empty.jpg", b"")
    write(root, "note.png", "a note\n")
    write(root, "page.jpg", "<!DOCTYPE html><html><body>404</body></html>")
    write(root, "pointer.jpg", POINTER)
    write(root, "thumb.png", _encoded(Image.new("RGB", (8, 8))))


def twelve_bits(root: Path) -> None:
    ramp = np.tile(np.linspace(0, 4000, 64).astype(np.uint16), (32, 1))
    write(root, "camera.png", _encoded(Image.fromarray(ramp)))
    write(root, "scaled.png", _encoded(Image.fromarray(ramp * 16)))


def _encoded(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def with_metadata(name: str, data: bytes | str) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        put(root, "a.png", "sub/b.png")
        write(root, name, data)

    return make


def metadata_parquet(root: Path) -> None:
    put(root, "a.png", "b.png")
    rows = {"file_name": ["a.png", "b.png"], "caption": ["one", "two"], "label": ["x", "y"], "size": [1, 2]}
    pq.write_table(pa.table(rows), root / "metadata.parquet")


def repository(root: Path) -> None:
    put(root, "teaser.png")
    write(root, "README.md", "a card")
    parquet(root, "data/train-00000.parquet", label=datasets.ClassLabel(names=["x", "y", "z"]))


def images_and_vectors(root: Path) -> None:
    put(root, "a.png", "b.png")
    pq.write_table(pa.table({"vector": [[0.1], [0.2], [0.3]]}), root / "vectors.parquet")


def shards_and_index(root: Path) -> None:
    parquet(root, "train-0.parquet", 2)
    pq.write_table(pa.table({"id": [1]}), root / "index.parquet")


def two_labels(root: Path) -> None:
    kinds = {name: datasets.ClassLabel(names=["a", "b", "c"]) for name in ("fine", "coarse")}
    parquet(root, "two.parquet", 2, **kinds)


def two_images(root: Path) -> None:
    cells = [picture(1), picture(2)]
    pq.write_table(pa.table({"left": cells, "right": cells[::-1]}), root / "two.parquet")


def webdataset(root: Path) -> None:
    told = {
        "000.cls": b"cat",
        "000.txt": b"a cat",
        "001.json": b'{"caption": "a dog", "label": "dog"}',
    }
    pack(root, "shard.tar", {"000.png": picture(0), "001.png": picture(1), **told})


def masks(*suffixes: str) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        names = [f"{sample}.{suffix}" for sample in ("000", "001") for suffix in suffixes]
        pack(root, "shard.tar", {name: picture(number) for number, name in enumerate(names)})

    return make


def odd_texts(root: Path) -> None:
    texts = {"000.txt": "d\u00e9j\u00e0 vu".encode("latin-1"), "001.json": b"{oops"}
    pack(root, "shard.tar", {"000.png": picture(0), "001.png": picture(1), **texts})


def stray_beside_tar(root: Path) -> None:
    put(root, "teaser.png")
    webdataset(root)


def zipped(root: Path, name: str = "set.zip") -> None:
    with zipfile.ZipFile(root / name, "w") as archive:
        archive.writestr("a.png", picture(0))


def saved(root: Path, *splits: str) -> None:
    one = table(2, label=datasets.ClassLabel(names=["x", "y"]))
    data = datasets.DatasetDict(dict.fromkeys(splits, one)) if splits else one
    data.save_to_disk(root / "saved")


FORMS = (
    Form("images at any depth", lambda root: put(root, "a.png", "deep/er/b.png"), images=2),
    Form("a folder a class", lambda root: put(root, "cat/0.png", "dog/0.png"), images=2, classes=("cat", "dog")),
    Form(
        "`train/` and `val/` with class folders in them",
        lambda root: put(root, "train/cat/0.png", "train/dog/0.png", "val/cat/1.png"),
        images=3,
        classes=("cat", "dog"),
    ),
    Form("`train/` and `val/` without classes", lambda root: put(root, "train/0.png", "val/1.png"), images=2),
    Form(
        "a class called train, beside others",
        lambda root: put(root, "bus/0.png", "car/0.png", "train/0.png"),
        images=3,
        classes=("bus", "car", "train"),
    ),
    Form(
        "a class of Tiny-ImageNet: `n01/images/0.JPEG`",
        lambda root: put(root, "n01/images/0.JPEG", "n02/images/0.JPEG"),
        images=2,
        classes=("n01", "n02"),
    ),
    Form(
        "Tiny-ImageNet as it is unpacked",
        lambda root: put(root, "train/n01/images/0.JPEG", "train/n02/images/0.JPEG", "val/images/0.JPEG"),
        images=3,
        classes=("n01", "n02"),
        remarks=("1 image lies in no class folder: val/images/0.JPEG",),
    ),
    Form(
        "one image beside class folders",
        lambda root: put(root, "cat/0.png", "dog/0.png", "teaser.png"),
        images=3,
        classes=("cat", "dog"),
        remarks=("1 image lies in no class folder: teaser.png",),
    ),
    Form(
        "mostly loose images, and a few in folders",
        lambda root: put(root, "a.png", "b.png", "old/0.png", "new/1.png"),
        images=4,
        remarks=("sub-folders are not taken for classes: 2 images of 4 in none of them (a.png, b.png)",),
    ),
    Form("class folders that are links", links, images=2, classes=("cat", "dog")),
    Form("a class folder and one that is a link", links_and_folders, images=2, classes=("cat", "dog")),
    Form("images that are links", links_to_files, images=2),
    Form(
        "links that lead in a circle",
        circle,
        images=2,
        classes=("cat", "dog"),
        remarks=(
            "2 links to a folder: leads in a circle and is not followed: cat/up, out",
            "1 link: leads nowhere: self",
        ),
    ),
    Form(
        "a link to a folder of the set",
        same_twice,
        images=1,
        remarks=("1 link to a folder: leads to what is in the set already and is not followed: latest",),
    ),
    Form(
        "links that lead nowhere, or to themselves",
        nowhere,
        images=1,
        skipped={
            "b.png": "a link that leads nowhere: No such file",
            "c.png": "a link that leads nowhere: Too many levels of symbolic links",
        },
    ),
    Form(
        "a class folder that is a link to nothing",
        lambda root: (put(root, "cat/0.png", "dog/0.png"), os.symlink("gone", root / "fox")),
        images=2,
        classes=("cat", "dog"),
        remarks=("1 link: leads nowhere: fox",),
    ),
    Form(
        "a sub-folder that may not be read",
        lambda root: put(root, "a/0.png", "b/0.png"),
        images=1,
        remarks=("1 folder: may not be looked into, and what lies there is left out: b/",),
        during=closed,
    ),
    Form("a name that is not UTF-8", not_utf8, images=1, skipped={"bad\\xff.png": "its name is not UTF-8: rename it"}),
    Form(
        "a name with decomposed letters, as of macOS, and metadata with composed ones", decomposed, images=1, captions=1
    ),
    Form(
        "hidden files, and what systems add",
        lambda root: put(root, "a.png", ".b.png", ".git/c.png", "__MACOSX/d.png", "@eaDir/a.png/e.jpg", "Thumbs.db"),
        images=1,
    ),
    Form(
        "a pipe with an image's name",
        lambda root: (put(root, "a.png"), os.mkfifo(root / "b.png")),
        images=1,
        skipped={"b.png": "not a file but a pipe, a socket or a device"},
    ),
    Form(
        "files that are no pictures, under names of pictures",
        damaged,
        images=1,
        skipped={
            "cut.png": "truncated",
            "empty.jpg": "the file is empty (0 bytes)",
            "note.png": "text, not an image",
            "page.jpg": "no image: it is an HTML page",
            "pointer.jpg": "a pointer of Git LFS in place of the file: fetch it with `git lfs pull`",
            "thumb.png": "8 x 8 pixels: too small",
        },
    ),
    Form(
        "12-bit data in a 16-bit file",
        twelve_bits,
        images=1,
        skipped={"camera.png": "16-bit pixels, none above 4,000 of 65,535, as 12-bit data are"},
    ),
    Form(
        "`metadata.csv`",
        with_metadata("metadata.csv", "file_name,text,label\na.png,one,x\nsub/b.png,two,y\ngone.png,,\n"),
        images=2,
        classes=("x", "y"),
        captions=2,
        skipped={"gone.png": "named in the metadata file, but there is no such image file"},
    ),
    Form(
        "`metadata.csv` in Latin-1",
        with_metadata("metadata.csv", "file_name,text\na.png,d\u00e9j\u00e0 vu\n".encode("latin-1")),
        images=2,
        captions=1,
        remarks=("metadata.csv is not UTF-8: read as Windows-1252",),
    ),
    Form(
        "`metadata.csv` of a spreadsheet: semicolons, backslashes, a byte order mark",
        with_metadata("metadata.csv", "\ufefffile_name;caption\r\na.png;one\r\nsub\\b.png;two\r\n"),
        images=2,
        captions=2,
    ),
    Form(
        "`metadata.jsonl`",
        with_metadata("sub/metadata.jsonl", '{"file_name": "b.png", "caption": "two"}\n\n'),
        images=2,
        captions=1,
    ),
    Form("`metadata.parquet`", metadata_parquet, images=2, classes=("x", "y"), captions=2),
    Form(
        "metadata without `file_name`",
        with_metadata("metadata.csv", "image,text\na.png,one\n"),
        refused="metadata.csv: row 1 has no file_name",
    ),
    Form("a Parquet file", lambda root: parquet(root, "a.parquet"), "{}/a.parquet", images=3),
    Form(
        "a dataset repository: Parquet files and one picture",
        repository,
        images=3,
        classes=("x", "y", "z"),
        remarks=("1 image file beside the Parquet files, with fewer images, left out: teaser.png",),
    ),
    Form(
        "images, and a Parquet file of something else",
        images_and_vectors,
        images=2,
        remarks=("1 Parquet file beside the image files, with fewer images, left out: vectors.parquet",),
    ),
    Form(
        "Parquet files, one of them without images",
        shards_and_index,
        images=2,
        remarks=("1 Parquet file without a column of images, left out: index.parquet",),
    ),
    Form(
        "two columns of classes",
        two_labels,
        "{}/two.parquet",
        refused="2 columns hold classes (fine, coarse), and none is called label or class",
    ),
    Form("the same, `#label=fine`", two_labels, "{}/two.parquet#label=fine", images=2, classes=("a", "b")),
    Form("the same, `#label=`", two_labels, "{}/two.parquet#label=", images=2),
    Form("two columns of images", two_images, "{}/two.parquet", refused="Columns that can be: left, right."),
    Form("the same, `#image=right`", two_images, "{}/two.parquet#image=right", images=2),
    Form("WebDataset", webdataset, "{}/shard.tar", images=2, classes=("cat", "dog"), captions=2),
    Form(
        "WebDataset, samples of an image and a mask",
        masks("png", "mask.png"),
        images=2,
        remarks=("2 members .mask.png beside other images of their samples, left out",),
    ),
    Form(
        "WebDataset, samples of `.jpg` and `.png`",
        masks("jpg", "png"),
        refused="samples have several images each (.jpg, .png)",
    ),
    Form("the same, `#image=all`", masks("jpg", "png"), "{}#image=all", images=4),
    Form(
        "WebDataset, a caption in Latin-1 and broken JSON",
        odd_texts,
        images=2,
        captions=1,
        remarks=(
            "1 text beside images not UTF-8, read as Windows-1252 or UTF-16: shard.tar/000.txt",
            "1 text beside images cannot be read: shard.tar/001.json",
        ),
    ),
    Form(
        "a tar file of class folders, as `tar -c .` packs them",
        lambda root: pack(root, "set.tar", {"./cat/0.png": picture(0), "./dog/0.png": picture(1)}),
        images=2,
        classes=("cat", "dog"),
    ),
    Form(
        "tar files and one picture",
        stray_beside_tar,
        images=2,
        classes=("cat", "dog"),
        captions=2,
        remarks=("1 image file beside the tar files, with fewer images, left out: teaser.png",),
    ),
    Form(
        "a `.tar.gz`",
        lambda root: pack(root, "set.tar.gz", {"a.png": picture(0)}, "w:gz"),
        "{}/set.tar.gz",
        refused="this file is compressed with gzip. Unpack it into a folder and name that.",
    ),
    Form(
        "a `.zip`", zipped, "{}/set.zip", refused="this file is a zip archive. Unpack it into a folder and name that."
    ),
    Form("a folder with nothing but a `.zip`", zipped, refused="Unpack set.zip and name the folder"),
    Form(
        "images beside a `.zip`",
        lambda root: (put(root, "a.png"), zipped(root)),
        images=1,
        remarks=("1 archive not read, unpack what is meant: set.zip",),
    ),
    Form("a folder that `save_to_disk` wrote", saved, "{}/saved", images=2, classes=("x", "y")),
    Form(
        "the same with splits",
        lambda root: saved(root, "train", "test"),
        "{}/saved",
        refused="it has several splits. Its splits: train, test. Write for example",
    ),
    Form(
        "one of these splits",
        lambda root: saved(root, "train", "test"),
        "{}/saved/train",
        images=2,
        classes=("x", "y"),
    ),
    Form("one image", lambda root: put(root, "a.png", "b.png"), "{}/a.png", images=1),
    Form(
        "a list of files",
        lambda root: write(root, "list.txt", "a.png\n"),
        "{}/list.txt",
        refused="this file is a text.",
    ),
    Form("an empty folder", lambda root: None, refused="there is no image in it (it is empty)"),
)


def page_table() -> str:
    """The table of all forms, as Markdown."""
    rows = []
    for form in FORMS:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder, "set")
            root.mkdir()
            rows.append((form.what, verdict(opened(form, root), root)))
    return markdown_table(("form", "what comes of it"), rows)


def with_table(page: str) -> str:
    """The page with its table written anew."""
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n\n{page_table()}\n\n{END}{after}"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m tests.pipeline.image_forms docs/probe-sets.md")
    target = Path(sys.argv[1])
    target.write_text(with_table(target.read_text()))
