"""Probe sets: every form, every bad image, and what they are named by."""

import hashlib
import io
import json
import os
import pickle
import shutil
import struct
import tarfile
import threading
import warnings
import zlib
from pathlib import Path

import datasets
import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from atlas_schema.errors import BadConfig, BadImage, NothingThere
from atlas_schema.store import Store
from pipeline.images import decoding as pictures
from pipeline.images.licences import is_free
from pipeline.images.probe_set import ProbeSet, Skipped, batches, default_mode, open_probe_set, rows, thumbnail
from pipeline.models import ModelRequest, describe
from pipeline.models.preprocess import pixels_of
from pipeline.zoo.world import ATTRIBUTES, HELD_OUT_SEED, scenes

REPO = Path(__file__).parents[2]
NATURAL = REPO.parent / "shared" / "fixtures" / "images"


def drawn(number: int, size: tuple[int, int] = (40, 30)) -> Image.Image:
    """A picture of noise, another one for each number."""
    width, height = size
    return Image.fromarray(np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8))


def encoded(image: Image.Image, format: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def png_16(pixels: np.ndarray) -> bytes:
    """A PNG of 16-bit RGB, which Pillow reads but does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, _ = pixels.shape
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def plain(folder: Path, names: list[str]) -> Path:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(encoded(drawn(number)))
    return folder


def shown(probe_set: ProbeSet, id: str) -> np.ndarray:
    index = [image.id for image in probe_set.images].index(id)
    return np.asarray(probe_set.open(index)).astype(int)


def reasons(probe_set: ProbeSet) -> dict[str, str]:
    return {image.id: image.reason for image in probe_set.skipped}


# ------------------------------------------------------------------------------------------------ bad images


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A folder with every kind of image that users bring and no model was made for."""
    ramp = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (32, 1))
    jpeg = encoded(drawn(0, (200, 100)), "JPEG")
    palette = Image.new("P", (32, 32), 0)
    palette.putpalette([255, 0, 0, 0, 255, 0])
    glass = Image.new("RGBA", (32, 32), (0, 0, 255, 255))
    glass.paste((0, 0, 0, 0), (0, 0, 16, 32))
    half = Image.new("RGB", (60, 40), "red")
    half.paste((0, 0, 255), (0, 0, 60, 20))  # upper half blue as stored
    deep = np.repeat(ramp[..., None], 3, axis=2)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise: what is above stands on the right
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("lime", "red")]
    files = {
        "truncated.jpg": jpeg[: len(jpeg) // 2],
        "no_header_left.jpg": jpeg[:3],
        "truncated.png": encoded(drawn(1))[:-200],
        "truncated.webp": encoded(drawn(1, (90, 90)), "WEBP")[:-300],
        "text.png": "this is a note, not a picture, déjà vu\n".encode() * 10,
        "empty.jpg": b"",
        "1x1.png": encoded(Image.new("RGB", (1, 1))),
        "flat.png": encoded(Image.new("RGB", (300, 15))),
        "random.gif": np.random.default_rng(0).bytes(500),
        "float.tiff": encoded(Image.fromarray(np.zeros((32, 32), np.float32)), "TIFF"),
        "cmyk.jpg": encoded(Image.new("CMYK", (32, 32), (0, 255, 255, 0)), "JPEG", quality=95),
        "grey16.png": encoded(Image.fromarray(ramp)),
        "grey16.tiff": encoded(Image.fromarray(ramp), "TIFF"),
        "rgb16.png": png_16(deep),
        "grey16.pgm": b"P5 64 32 65535\n" + ramp.astype(">u2").tobytes(),
        "grey.png": encoded(Image.new("L", (32, 32), 77)),
        "one_bit.png": encoded(Image.new("1", (32, 32), 1)),
        "palette.png": encoded(palette),
        "palette_transparent.png": encoded(palette, transparency=0),
        "glass.png": encoded(glass),
        "turned.jpg": encoded(half, "JPEG", exif=exif, quality=95),
        "moving.gif": encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "good.webp": encoded(drawn(2), "WEBP"),
        "notes.txt": b"not meant to be an image",
        ".hidden.png": b"not looked at",
        ".git/object.png": b"not looked at",
        "__MACOSX/._good.png": b"not looked at",
    }
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    return tmp_path


def test_what_cannot_be_decoded_is_skipped_and_named(mixed):
    said = reasons(open_probe_set(str(mixed)))
    assert said.keys() == {
        *("truncated.jpg", "no_header_left.jpg", "truncated.png", "truncated.webp", "text.png", "empty.jpg"),
        *("1x1.png", "flat.png", "random.gif", "float.tiff"),
    }
    assert "truncated" in said["truncated.jpg"]
    assert said["text.png"] == "text, not an image"
    assert said["empty.jpg"] == "the file is empty (0 bytes)"
    assert said["1x1.png"] == "1 x 1 pixels: too small to show anything: at least 16 px a side"
    assert "300 x 15" in said["flat.png"]
    assert "not an image" in said["random.gif"]
    assert "convert it to 8 or 16 bits" in said["float.tiff"]


def test_other_files_are_no_images_and_not_named(mixed):
    probe_set = open_probe_set(str(mixed))
    ids = {image.id for image in probe_set.images} | reasons(probe_set).keys()
    assert not [id for id in ids if "notes" in id or "hidden" in id or "object" in id or "MACOSX" in id]


@pytest.mark.parametrize(
    ("name", "error"), [("grey16.png", 0.51), ("grey16.tiff", 0.51), ("grey16.pgm", 0.51), ("rgb16.png", 1)]
)
def test_16_bits_are_scaled_not_clipped(mixed, name, error):
    """Grey is rounded; of RGB Pillow keeps the high byte."""
    picture = shown(open_probe_set(str(mixed)), name)
    assert picture.shape == (32, 64, 3)
    assert np.abs(picture[0, :, 0] - np.linspace(0, 255, 64)).max() <= error
    assert (picture[..., 0] == picture[..., 2]).all()


def test_colours_are_what_a_viewer_shows(mixed):
    probe_set = open_probe_set(str(mixed))
    assert np.abs(shown(probe_set, "cmyk.jpg")[16, 16] - (255, 0, 0)).max() <= 4
    assert tuple(shown(probe_set, "palette.png")[0, 0]) == (255, 0, 0)
    assert tuple(shown(probe_set, "palette_transparent.png")[0, 0]) == (255, 255, 255)
    assert tuple(shown(probe_set, "glass.png")[0, 0]) == (255, 255, 255)
    assert tuple(shown(probe_set, "glass.png")[0, 31]) == (0, 0, 255)
    assert tuple(shown(probe_set, "one_bit.png")[0, 0]) == (255, 255, 255)
    assert tuple(shown(probe_set, "grey.png")[0, 0]) == (77, 77, 77)
    assert tuple(shown(probe_set, "moving.gif")[0, 0]) == (0, 255, 0)


def test_orientation_of_exif_is_applied(mixed):
    probe_set = open_probe_set(str(mixed))
    image = next(image for image in probe_set.images if image.id == "turned.jpg")
    assert (image.width, image.height) == (40, 60)
    picture = shown(probe_set, "turned.jpg")
    assert np.abs(picture[30, 35] - (0, 0, 255)).max() <= 4  # right
    assert np.abs(picture[30, 5] - (255, 0, 0)).max() <= 4  # left


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF"])
def test_whatever_is_wrong_with_a_file_it_is_a_bad_image(format):
    whole = np.frombuffer(encoded(drawn(0), format), np.uint8)
    refused = 0
    for seed in range(200):
        random = np.random.default_rng(seed)
        damaged = whole.copy()
        damaged[random.integers(0, min(400, len(whole)), size=1 + seed % 8)] = random.integers(0, 256)
        try:
            assert pictures.decoded(damaged.tobytes()).mode == "RGB"
        except BadImage:
            refused += 1
    assert refused


def test_more_pixels_than_are_safe_are_skipped(tmp_path, monkeypatch):
    plain(tmp_path, ["small.png"])
    (tmp_path / "huge.png").write_bytes(encoded(Image.new("1", (200, 200))))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        said = reasons(open_probe_set(str(tmp_path)))
    assert said == {"huge.png": "too many pixels: more than the 20,000 that Pillow takes for safe"}


def test_a_picture_for_other_programs_is_not_handed_to_them(tmp_path):
    plain(tmp_path, ["a.png"])
    (tmp_path / "script.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n%%EndComments\n%%EOF\n")
    assert reasons(open_probe_set(str(tmp_path))) == {"script.png": "text, not an image"}


# --------------------------------------------------------------------------------------------- nothing there


@pytest.mark.parametrize(
    ("files", "error", "told"),
    [
        ({}, NothingThere, "it is empty"),
        ({"a.txt": b"x"}, NothingThere, "1 other files, such as a.txt"),
        ({"a.png": b"", "b.png": b"no"}, BadConfig, "none of its 2 images can be used"),
    ],
)
def test_a_folder_without_a_single_image_is_refused(tmp_path, files, error, told):
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(error) as raised:
        open_probe_set(str(tmp_path))
    assert str(tmp_path) in str(raised.value)
    assert told in str(raised.value)
    assert "xpected" in str(raised.value)


@pytest.mark.parametrize(
    "spec", ["{}/missing", "{}/missing.tar", "{}/missing.parquet", "{}/*.parquet", "memory://nowhere"]
)
def test_what_is_not_there_is_said(tmp_path, spec):
    spec = spec.format(tmp_path)
    with pytest.raises(NothingThere) as raised:
        open_probe_set(spec)
    assert spec in str(raised.value)
    assert "zoo or zoo:N" in str(raised.value)


@pytest.mark.parametrize("spec", ["", "zoo:", "zoo:0", "zoo:many", "zoo:-3", "zoo:2:3"])
def test_a_spec_that_is_none_is_refused(spec):
    with pytest.raises(BadConfig, match=r"Expected|expected zoo"):
        open_probe_set(spec)


def test_a_reader_of_one_image_that_has_changed_is_told_its_name(tmp_path):
    probe_set = open_probe_set(str(plain(tmp_path, ["a.png", "b.png", "c.png"])))
    description = describe(ModelRequest("zoo/vit"))
    (tmp_path / "b.png").write_bytes(encoded(drawn(99)))
    with pytest.raises(BadImage, match=r"image b\.png of probe set .* has changed .* its SHA-256 was"):
        list(batches(probe_set, [0, 1, 2], description, 2))
    (tmp_path / "b.png").write_bytes(b"gone bad")
    with pytest.raises(BadImage, match=r"image b\.png of .*text, not an image"):
        probe_set.open(1)
    (tmp_path / "b.png").unlink()
    with pytest.raises(BadImage, match=r"image b\.png of .*there is no such file"):
        probe_set.open(1)
    assert probe_set.open(0).size == (40, 30)


# ---------------------------------------------------------------------------------------------------- forms


def test_the_world_is_known_in_every_attribute():
    probe_set = open_probe_set("zoo:40")
    world = scenes(HELD_OUT_SEED, range(40))
    assert len(probe_set) == 40
    assert probe_set.skipped == ()
    assert probe_set.name == "zoo"
    for index in (0, 7, 39):
        assert (np.asarray(probe_set.open(index)) == world.images[index]).all()
        assert dict(probe_set.images[index].attributes) == world.words(index)
        assert probe_set.images[index].label == world.words(index)["shape"]
        assert world.words(index)["colour"] in probe_set.images[index].caption
    assert set(probe_set.classes) <= set(ATTRIBUTES["shape"])
    assert probe_set.free
    assert len(open_probe_set("zoo")) == 2000


def test_fewer_scenes_are_the_first_of_more():
    few, more = open_probe_set("zoo:10"), open_probe_set("zoo:30")
    assert few.images == more.images[:10]
    assert few.identity != more.identity


def test_sub_folders_are_classes_and_an_image_beside_them_has_none(tmp_path):
    plain(tmp_path, ["cat/a.png", "dog/b.png", "dog/old/c.png"])
    probe_set = open_probe_set(str(tmp_path))
    assert [(image.id, image.label) for image in probe_set.images] == [
        ("cat/a.png", "cat"),
        ("dog/b.png", "dog"),
        ("dog/old/c.png", "old"),
    ]
    assert probe_set.classes == ("cat", "dog", "old")
    plain(tmp_path, ["loose.png"])
    probe_set = open_probe_set(str(tmp_path))
    assert probe_set.classes == ("cat", "dog", "old")
    assert [image.id for image in probe_set.images if not image.label] == ["loose.png"]
    assert probe_set.remarks == ("1 image lies in no class folder: loose.png",)


def test_metadata_files_say_more(tmp_path):
    plain(tmp_path, ["a.png", "b.png", "deep/c.png"])
    (tmp_path / "metadata.csv").write_text(
        'file_name,text,class,license,source\na.png,"a cat, asleep",cat,CC-BY 4.0,https://example.org/a\ngone.png,,,,\n'
    )
    (tmp_path / "deep" / "metadata.jsonl").write_text(
        json.dumps({"file_name": "c.png", "caption": "déjà vu", "label": "dog", "licence": "CC0"}) + "\n\n"
    )
    probe_set = open_probe_set(str(tmp_path))
    a, b, c = probe_set.images
    assert (a.caption, a.label, a.licence, a.source) == ("a cat, asleep", "cat", "CC-BY 4.0", "https://example.org/a")
    assert (b.caption, b.label, b.licence) == ("", "", "")
    assert (c.id, c.caption, c.label, c.licence) == ("deep/c.png", "déjà vu", "dog", "CC0")
    assert probe_set.skipped == (Skipped("gone.png", "named in the metadata file, but there is no such image file"),)
    assert not probe_set.free  # b has no licence


@pytest.mark.parametrize(
    ("name", "data"),
    [("metadata.csv", b"image,text\na.png,x\n"), ("metadata.jsonl", b"{oops\n"), ("metadata.csv", b"\xff\xfe\xff")],
)
def test_a_metadata_file_that_cannot_be_read_is_named(tmp_path, name, data):
    plain(tmp_path, ["a.png"])
    (tmp_path / name).write_bytes(data)
    with pytest.raises(BadConfig, match=f"{name}.*Expected.*file_name"):
        open_probe_set(str(tmp_path))


def test_a_url_is_a_folder_too():
    filesystem = fsspec.filesystem("memory")
    for number, name in enumerate(["x/a.png", "y/b.png", "y/.thumb.png"]):
        filesystem.pipe(f"/probe/{name}", encoded(drawn(number)))
    probe_set = open_probe_set("memory://probe")
    assert [(image.id, image.label) for image in probe_set.images] == [("x/a.png", "x"), ("y/b.png", "y")]
    assert probe_set.images[0].source == "memory://probe/x/a.png"
    assert (shown(probe_set, "y/b.png") == np.asarray(drawn(1))).all()


def table_of(count: int, start: int = 0) -> pa.Table:
    """As `datasets` writes it: image structs, a ClassLabel and a caption."""
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=["cat", "dog"]),
            "caption": datasets.Value("string"),
        }
    )
    cells = [{"bytes": encoded(drawn(start + i)), "path": f"{i}.png"} for i in range(count)]
    data = {"image": cells, "label": [i % 2 for i in range(count)], "caption": [f"number {i}" for i in range(count)]}
    return pa.table(data, schema=features.arrow_schema)


def test_parquet_files_as_the_hub_has_them(tmp_path):
    pq.write_table(table_of(7), tmp_path / "train-00000.parquet", row_group_size=3)
    pq.write_table(table_of(2, start=7), tmp_path / "train-00001.parquet")
    (tmp_path / "README.md").write_text("a card")
    probe_set = open_probe_set(str(tmp_path))
    assert [image.id for image in probe_set.images] == [
        *(f"train-00000.parquet/{row:08d}" for row in range(7)),
        *(f"train-00001.parquet/{row:08d}" for row in range(2)),
    ]
    assert [image.label for image in probe_set.images[:3]] == ["cat", "dog", "cat"]
    assert probe_set.images[4].caption == "number 4"
    for index in (8, 0, 6, 3):  # in any order
        assert (np.asarray(probe_set.open(index)) == np.asarray(drawn(index))).all()
    one = open_probe_set(str(tmp_path / "train-00001.parquet"))
    assert [image.id for image in one.images] == ["train-00001.parquet/00000000", "train-00001.parquet/00000001"]
    assert open_probe_set(f"{tmp_path}/train-*.parquet").identity == probe_set.identity


def test_parquet_of_plain_bytes_with_gaps(tmp_path):
    cells = [encoded(drawn(0)), None, b"text"]
    pq.write_table(pa.table({"jpg": pa.array(cells, pa.binary()), "class": [5, 5, 6]}), tmp_path / "a.parquet")
    probe_set = open_probe_set(str(tmp_path / "a.parquet"))
    assert [image.label for image in probe_set.images] == ["5"]
    assert reasons(probe_set) == {
        "a.parquet/00000001": "the row has no image",
        "a.parquet/00000002": "text, not an image",
    }


def test_parquet_with_paths_instead_of_bytes(tmp_path):
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    cells = [{"bytes": None, "path": "a.png"}, {"bytes": encoded(drawn(0)), "path": None}]
    pq.write_table(pa.table({"image": pa.array(cells, kind)}), tmp_path / "a.parquet")
    assert reasons(open_probe_set(str(tmp_path))) == {"a.parquet/00000000": "only a path is given, a.png, and no bytes"}


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"text": ["a"]}, "Columns that can be: none. All columns: text"),
        ({"left": [b"a"], "right": [b"b"]}, "Columns that can be: left, right"),
    ],
)
def test_parquet_whose_image_column_cannot_be_told(tmp_path, columns, told):
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    with pytest.raises(BadConfig, match=told):
        open_probe_set(str(tmp_path))


@pytest.mark.parametrize("name", ["a.parquet", "a.tar"])
def test_a_damaged_container_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"neither the one nor the other" * 100)
    with pytest.raises(BadConfig, match=rf"{name} cannot be read as .*Expected a whole"):
        open_probe_set(str(tmp_path / name))


def packed(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def test_webdataset_samples(tmp_path):
    path = packed(
        tmp_path / "shard-0.tar",
        {
            "deep/002.left.png": encoded(drawn(2)),  # not in order
            "000.jpg": encoded(drawn(0), "JPEG"),
            "000.txt": b"a caption\n",
            "000.cls": b"3",
            "001.json": json.dumps(
                {"caption": "of json", "label": "dog", "license": "mit", "url": "http://a"}
            ).encode(),
            "001.png": encoded(drawn(1)),
            "._000.jpg": b"of macOS",
            "003.jpg": b"",
            "README.md": b"read me",
        },
    )
    probe_set = open_probe_set(str(path))
    first, second, third = probe_set.images
    assert (first.id, first.label, first.caption) == ("shard-0.tar/000.jpg", "3", "a caption")
    assert (second.label, second.caption, second.licence, second.source) == ("dog", "of json", "mit", "http://a")
    assert third.id == "shard-0.tar/deep/002.left.png"
    assert reasons(probe_set) == {"shard-0.tar/003.jpg": "the file is empty (0 bytes)"}
    assert (np.asarray(probe_set.open(1)) == np.asarray(drawn(1))).all()
    fsspec.filesystem("memory").pipe("/tars/shard-0.tar", path.read_bytes())
    assert open_probe_set("memory://tars/shard-0.tar").identity == probe_set.identity
    assert open_probe_set("memory://tars").identity == probe_set.identity


def test_a_truncated_archive_is_refused(tmp_path):
    path = packed(tmp_path / "a.tar", {f"{i}.png": encoded(drawn(i)) for i in range(3)})
    path.write_bytes(path.read_bytes()[:6000])
    with pytest.raises(BadConfig, match=r"a\.tar cannot be read as tar: unexpected end of data"):
        open_probe_set(str(path))


def test_two_members_of_one_name(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for number in range(2):
            data = encoded(drawn(number))
            member = tarfile.TarInfo("same.png")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    probe_set = open_probe_set(str(tmp_path / "a.tar"))
    assert reasons(probe_set) == {"a.tar/same.png": "a second image of this name: the first is used"}
    assert (np.asarray(probe_set.open(0)) == np.asarray(drawn(0))).all()


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch) -> Path:
    """A dataset folder as on the hub: two splits, one image broken."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "data"
    folder.mkdir()
    pq.write_table(table_of(5), folder / "train-00000-of-00001.parquet")
    broken = table_of(3, start=5).to_pylist()
    broken[1]["image"]["bytes"] = b"text"
    pq.write_table(pa.Table.from_pylist(broken, schema=table_of(1).schema), folder / "test-00000-of-00001.parquet")
    return folder


def test_a_dataset_of_the_hub(dataset):
    probe_set = open_probe_set(f"hf:{dataset}:test")
    assert [(image.id, image.label, image.caption) for image in probe_set.images] == [
        ("test/00000000", "cat", "number 0"),
        ("test/00000002", "cat", "number 2"),
    ]
    assert reasons(probe_set) == {"test/00000001": "text, not an image"}
    assert (np.asarray(probe_set.open(1)) == np.asarray(drawn(7))).all()
    copy = pickle.loads(pickle.dumps(probe_set))
    assert (np.asarray(copy.open(0)) == np.asarray(drawn(5))).all()
    assert len(pickle.dumps(probe_set)) < 3000
    assert len(open_probe_set(f"hf:{dataset}:train[1:3]:image")) == 2


@pytest.mark.parametrize(
    ("rest", "told"),
    [
        ("", r"it has several splits\. Its splits: (train, test|test, train)"),
        (":tests", r"no split 'tests'\..* Write for example hf:.*:test\."),
        (":test:caption", r"column 'caption' holds no images\. Columns that do: image\."),
    ],
)
def test_splits_and_columns_are_listed(dataset, rest, told):
    with pytest.raises(BadConfig, match=told):
        open_probe_set(f"hf:{dataset}{rest}")


# ------------------------------------------------------------------------------------ identity, splits, tables


def test_identity_is_of_names_and_bytes_alone(tmp_path):
    names = ["x/a.png", "y/b.png", "y/c.png"]
    here = open_probe_set(str(plain(tmp_path / "here", names)))
    there = tmp_path / "else" / "where"
    for name in reversed(names):  # another order on the disk
        (there / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(tmp_path / "here" / name, there / name)
    assert open_probe_set(str(there)).identity == here.identity
    told = "".join(f"{name}\0{hashlib.sha256((there / name).read_bytes()).hexdigest()}\n" for name in names)
    assert here.identity == hashlib.sha256(told.encode()).hexdigest()[:16]
    (there / "y/c.png").rename(there / "y/d.png")
    renamed = open_probe_set(str(there)).identity
    (there / "y/d.png").write_bytes(encoded(drawn(8)))
    assert len({here.identity, renamed, open_probe_set(str(there)).identity}) == 3


def test_relative_folders_are_found_from_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    probe_set = pickle.loads(pickle.dumps(open_probe_set(str(plain(Path("set"), ["a.png"])))))
    monkeypatch.chdir("/")
    assert probe_set.open(0).size == (40, 30)
    assert (probe_set.name, probe_set.spec) == ("set", "set")
    assert str(tmp_path) not in str(rows(probe_set, "embed"))


def test_the_same_bytes_twice_are_two_images_and_counted(tmp_path):
    plain(tmp_path, ["a.png", "b.png"])
    shutil.copyfile(tmp_path / "a.png", tmp_path / "c.png")
    probe_set = open_probe_set(str(tmp_path))
    assert [image.id for image in probe_set.images] == ["a.png", "b.png", "c.png"]
    assert probe_set.duplicates == 1
    assert probe_set.split(0) == probe_set.split(2)


def test_about_half_of_the_images_is_kept_for_checking():
    probe_set = open_probe_set("zoo")
    splits = [probe_set.split(index) for index in range(len(probe_set))]
    assert set(splits) == {"fit", "test"}
    assert abs(splits.count("fit") - 1000) < 5 * np.sqrt(2000) / 2  # five standard deviations of a fair coin
    first = sorted(range(2000), key=lambda index: probe_set.images[index].sha256)[:1000]  # as the panel is chosen
    assert abs(sum(splits[index] == "fit" for index in first) - 500) < 5 * np.sqrt(1000) / 2


def test_progress_is_told_image_by_image(mixed):
    told = []
    probe_set = open_probe_set(str(mixed), on_image=lambda done, of: told.append((done, of)))
    count = len(probe_set.images) + len(probe_set.skipped)
    assert told == [(done, count) for done in range(1, count + 1)]


def test_pixels_are_those_of_each_image_in_the_order_asked_for(tmp_path):
    probe_set = open_probe_set(str(plain(tmp_path, [f"{i}.png" for i in range(7)])))
    description = describe(ModelRequest("zoo/vit"))
    got = list(batches(probe_set, [6, 0, 0, 3, 1], description, 2))
    assert [indices for indices, _ in got] == [[6, 0], [0, 3], [1]]
    for indices, pixels in got:
        assert pixels.dtype == torch.float32
        for index, one in zip(indices, pixels, strict=True):
            assert torch.equal(one, pixels_of(drawn(index), description))
    assert list(batches(probe_set, [], description, 2)) == []


def test_a_reader_that_stops_early_leaves_no_threads(tmp_path):
    probe_set = open_probe_set(str(plain(tmp_path, [f"{i}.png" for i in range(7)])))
    before = set(threading.enumerate())
    reading = batches(probe_set, range(7), describe(ModelRequest("zoo/vit")), 1)
    next(reading)
    assert set(threading.enumerate()) > before
    reading.close()
    assert set(threading.enumerate()) == before


@pytest.mark.parametrize("size", [(64, 64), (300, 90), (90, 300), (223, 224), (16, 500)])
def test_a_thumbnail_shows_the_square_that_models_see(size):
    width, height = size
    ramps = np.stack(np.broadcast_arrays(np.linspace(0, 255, width), np.linspace(0, 255, height)[:, None]), -1)
    image = Image.fromarray(np.dstack([ramps, ramps[..., :1]]).round().astype(np.uint8))
    small = Image.open(io.BytesIO(thumbnail(image, 64)))
    assert (small.format, small.size) == ("WEBP", (64, 64))
    seen = pixels_of(image, describe(ModelRequest("zoo/vit"))).permute(1, 2, 0).numpy() * 255
    assert np.abs(np.asarray(small).astype(float) - seen).mean() < 4
    assert Image.open(io.BytesIO(thumbnail(image))).size == (112, 112)


def test_rows_of_the_table():
    probe_set = open_probe_set("zoo:3")
    first = rows(probe_set, "embed")[0]
    assert first["probe_set"] == probe_set.identity
    assert [row["index"] for row in rows(probe_set, "embed")] == [0, 1, 2]
    assert Image.open(io.BytesIO(first["thumbnail"]["bytes"])).size == (112, 112)
    assert [pair["name"] for pair in first["attributes"]] == list(ATTRIBUTES)
    assert first["licence"] == "apache-2.0"
    assert [row["thumbnail"] for row in rows(probe_set, "reference")] == [None] * 3
    assert rows(probe_set, "none") == []
    with pytest.raises(BadConfig, match=r"'embedd'.*embed, reference, none; nearest: embed"):
        rows(probe_set, "embedd")


def test_what_is_not_known_is_absent(tmp_path):
    row = rows(open_probe_set(str(plain(tmp_path, ["a.png"]))), "reference")[0]
    unknown = ("thumbnail", "class", "caption", "attributes", "licence", "source")
    assert [row[name] for name in unknown] == [None] * 6
    assert (row["image"], row["width"], row["height"], row["split"] in ("fit", "test")) == ("a.png", 40, 30, True)


@pytest.mark.parametrize(
    "licence",
    [
        *("CC0", "cc0-1.0", "CC BY 4.0", "cc-by-sa-3.0", "CC BY-SA 2.0", "Public Domain", "apache-2.0", "Apache 2.0"),
        *("MIT", "MIT License", "BSD-3-Clause", "http://creativecommons.org/publicdomain/zero/1.0/", "PDM 1.0"),
        *("https://creativecommons.org/licenses/by/2.0/", "Creative Commons Attribution 4.0", "CC0 1.0 Universal"),
        *("https://creativecommons.org/publicdomain/mark/1.0/", "cc-by-3.0-us", "Apache License, Version 2.0"),
    ],
)
def test_free_licences(licence):
    assert is_free(licence)


@pytest.mark.parametrize(
    "licence",
    [
        *(
            "",
            "unknown",
            "other",
            "cc-by-nc-4.0",
            "CC BY-NC-SA 3.0",
            "cc-by-nd-4.0",
            "cc",
            "ImageNet",
            "all rights reserved",
        ),
        *(
            "https://creativecommons.org/licenses/by-nc/2.0/",
            "not MIT",
            "commercial",
            "cc-by-nc-sa-4.0",
            "research only",
        ),
        *(
            "Creative Commons Attribution-NonCommercial 4.0",
            "custom (mit-like)",
            "Apache 2.0 with Commons Clause",
            "MIT, non-commercial",
        ),
    ],
)
def test_other_licences_are_not(licence):
    assert not is_free(licence)


def test_thumbnails_are_embedded_only_where_every_licence_is_free(tmp_path):
    plain(tmp_path, ["a.png", "b.png"])
    (tmp_path / "metadata.csv").write_text("file_name,licence\na.png,CC0\nb.png,CC BY 4.0\n")
    assert default_mode(open_probe_set(str(tmp_path))) == "embed"
    (tmp_path / "metadata.csv").write_text("file_name,licence\na.png,CC0\nb.png,CC BY-NC 4.0\n")
    assert default_mode(open_probe_set(str(tmp_path))) == "reference"
    (tmp_path / "metadata.csv").unlink()
    assert default_mode(open_probe_set(str(tmp_path))) == "reference"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read_is_skipped(tmp_path):
    plain(tmp_path, ["a.png", "b.png"])
    (tmp_path / "b.png").chmod(0)
    assert reasons(open_probe_set(str(tmp_path))) == {"b.png": "the file may not be read: permission denied"}


def test_the_store_travels_with_the_set(tmp_path):
    probe_set = open_probe_set(str(plain(tmp_path, ["a.png", "b.png"])))
    copy = pickle.loads(pickle.dumps(probe_set))
    assert isinstance(copy.source.store, Store)
    assert copy == probe_set
    assert copy.identity == probe_set.identity
    assert (np.asarray(copy.open(1)) == np.asarray(drawn(1))).all()


@pytest.mark.skipif(not NATURAL.is_dir(), reason="no folder shared/fixtures/images: real images are not checked")
def test_a_thousand_natural_images():
    probe_set = open_probe_set(str(NATURAL))
    assert len(probe_set) == 1000
    assert probe_set.skipped == ()
    assert probe_set.classes == ()
    assert default_mode(probe_set) == "reference"
    assert {min(image.width, image.height) for image in probe_set.images} == {256}
    for indices, pixels in batches(probe_set, [0, 500, 999], describe(ModelRequest("zoo/vit")), 3):
        assert indices == [0, 500, 999]
        assert pixels.std() > 0.1
    assert len(thumbnail(probe_set.open(0))) < 8000
    assert pictures.THUMBNAIL_SIDE == 112
