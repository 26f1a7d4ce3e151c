"""Folders and files of images as people have them: each read, or refused by what it is; nothing left out unsaid."""

from __future__ import annotations

import os
import shutil
import struct
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import datasets
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atlas_schema.errors import AtlasError, BadConfig, NothingThere
from jobs.opening import summary_of
from pipeline.images.probe_set import ProbeSet, open_probe_set
from tests.pipeline.image_forms import (
    FORMS,
    POINTER,
    Form,
    odd_texts,
    opened,
    parquet,
    picture,
    put,
    with_table,
    write,
)
from tests.pipeline.test_probe_set import png_16

PAGE = Path(__file__).parents[2] / "docs/probe-sets.md"


@pytest.mark.parametrize("form", FORMS, ids=[form.what for form in FORMS])
def test_each_form_becomes_what_is_expected(form: Form, tmp_path: Path) -> None:
    root = tmp_path / "set"
    root.mkdir()
    found = opened(form, root)
    if form.refused:
        assert isinstance(found, AtlasError), found
        assert form.refused in str(found)
        return
    assert isinstance(found, ProbeSet), found
    assert (len(found), found.classes) == (form.images, form.classes)
    assert sum(bool(image.caption) for image in found.images) == form.captions
    assert found.skipped == tuple(sorted(found.skipped, key=lambda one: one.id))
    assert [one.id for one in found.skipped] == sorted(form.skipped)
    for one in found.skipped:
        assert form.skipped[one.id] in one.reason
    assert len(found.remarks) == len(form.remarks), found.remarks
    for said, part in zip(found.remarks, form.remarks, strict=True):
        assert part in said
    for index in range(len(found)):
        assert found.open(index).size == (found.images[index].width, found.images[index].height)


def test_the_table_of_forms_is_not_stale() -> None:
    assert with_table(PAGE.read_text()) == PAGE.read_text(), "python -m tests.pipeline.image_forms docs/probe-sets.md"


def test_a_user_is_told_what_is_in_a_set_and_what_is_not(tmp_path: Path) -> None:
    put(tmp_path, "cat/0.png", "dog/0.png", "loose.png")
    write(tmp_path, "cat/bad.png", "no picture")
    write(tmp_path, "metadata.csv", "file_name,text\ncat/0.png,a cat\n")
    found = open_probe_set(str(tmp_path))
    assert summary_of(found) == [
        f"3 probe images, 2 classes (and 1 image without one), 1 caption, set {found.identity}",
        "1 image cannot be used:",
        "  cat/bad.png: text, not an image",
        "1 image lies in no class folder: loose.png",
    ]


def test_identity_is_that_of_a_copy_without_links_and_of_composed_names(tmp_path: Path) -> None:
    put(tmp_path, "store/cat/0.png", "store/dog/0.png")
    (tmp_path / "linked").mkdir()
    for name in ("dog", "cat"):
        os.symlink(tmp_path / "store" / name, tmp_path / "linked" / name)
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path / "linked", copy)
    identities = {open_probe_set(str(tmp_path / name)).identity for name in ("store", "linked", "copy")}
    assert len(identities) == 1
    one, other = tmp_path / "composed", tmp_path / "decomposed"
    write(one, "\N{LATIN SMALL LETTER E WITH ACUTE}.png", picture(0))
    write(other, "e\N{COMBINING ACUTE ACCENT}.png", picture(0))
    assert open_probe_set(str(one)).identity == open_probe_set(str(other)).identity


def test_links_between_many_folders_are_followed_once_each(tmp_path: Path) -> None:
    """Each of ten folders links to all ten: a walk along every path would visit millions."""
    for number in range(10):
        put(tmp_path, f"{number}/{number}.png")
        for other in range(10):
            os.symlink(f"../{other}", tmp_path / f"{number}" / f"to-{other}")
    found = open_probe_set(str(tmp_path))
    assert [image.id for image in found.images] == [f"{number}/{number}.png" for number in range(10)]
    assert len(found.remarks) == 2  # ten links to their own folder, ninety to others


def test_a_second_start_does_not_read_images_behind_links_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "real/cat/0.png", "real/dog/0.png")
    (tmp_path / "set").mkdir()
    for name in ("cat", "dog"):
        os.symlink(f"../real/{name}", tmp_path / "set" / name)
    first = open_probe_set(str(tmp_path / "set"), memory=tmp_path / "memory")
    monkeypatch.setattr("pipeline.images.entry.decoded", None)
    assert open_probe_set(str(tmp_path / "set"), memory=tmp_path / "memory") == first


@pytest.mark.parametrize(
    ("spec", "error", "told"),
    [
        (
            "{}/a.parquet#label=fien",
            BadConfig,
            r"no column of labels 'fien'\. Nearest: fine\. All columns",
        ),
        ("{}/a.parquet#lable=fine", BadConfig, r"'lable' is neither; nearest: label"),
        ("{}#label=x", BadConfig, "this is a folder of images; leave out the # part"),
        ("zoo:3#label=x", BadConfig, "this is scenes of the zoo"),
        ("{}/bad\udcff", BadConfig, r"bad\\xff: this name is not UTF-8"),
        ("{}/pointer.parquet", BadConfig, "It is a pointer of Git LFS in place of the file"),
        ("{}/gone.zip", NothingThere, "there is no such file"),
        ("{}/a\0b", BadConfig, "has no name"),
    ],
)
def test_a_name_of_a_set_that_is_none_says_so(tmp_path: Path, spec: str, error: type[AtlasError], told: str) -> None:
    put(tmp_path, "a.png")
    parquet(tmp_path, "a.parquet", 1, fine=datasets.ClassLabel(names=["x"]))
    write(tmp_path, "pointer.parquet", POINTER)
    with pytest.raises(error, match=told):
        open_probe_set(spec.format(tmp_path))


def test_a_file_that_says_that_it_has_12_bits_is_read_as_such(tmp_path: Path) -> None:
    """TIFF packs two values of 12 bits into three bytes; 4095 is white."""
    width, height = 32, 16
    values = np.tile(np.linspace(0, 4095, width).astype(np.uint16), (height, 1))
    even, odd = values[:, ::2].astype(int), values[:, 1::2].astype(int)
    packed = np.stack([even >> 4, (even & 15) << 4 | odd >> 8, odd & 255], -1).astype(np.uint8).tobytes()
    tags = {256: width, 257: height, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: len(packed)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    write(tmp_path, "a.tiff", struct.pack("<2sHI", b"II", 42, 8 + len(packed)) + packed + directory)
    picture = np.asarray(open_probe_set(str(tmp_path)).open(0)).astype(int)
    assert np.abs(picture[0, :, 0] - np.linspace(0, 255, width)).max() <= 0.6


def test_colour_of_12_bits_in_16_is_named_too(tmp_path: Path) -> None:
    put(tmp_path, "a.png")
    pixels = np.random.default_rng(0).integers(0, 4096, (20, 20, 3), dtype=np.uint16)
    write(tmp_path, "b.png", png_16(pixels))
    write(tmp_path, "c.png", png_16(pixels * 16))
    found = open_probe_set(str(tmp_path))
    assert [image.id for image in found.images] == ["a.png", "c.png"]
    assert "as 12-bit data are" in found.skipped[0].reason


def test_a_name_with_a_number_sign_is_a_name(tmp_path: Path) -> None:
    put(tmp_path, "a#label=x/0.png")
    assert len(open_probe_set(f"{tmp_path}/a#label=x")) == 1
    assert open_probe_set(f"{tmp_path}/a#label=x").name == "a#label=x"


# ------------------------------------------------------------------------------------------------------- any tree

NAMES = st.sampled_from(
    [
        *("a.png", "b.JPG", "cat", "dog", "images", "train", "val", ".hidden", "c.tar", "d.parquet", "e.zip"),
        *("metadata.csv", "metadata.jsonl", "metadata.parquet", "state.json", "dataset_info.json", "dataset_dict.json"),
        *(
            "bad\udcff.png",
            "new\nline.png",
            "e\u0301.png",
            "\u00e9.png",
            "two  spaces.gif",
            "#label=x",
            "*.png",
            "x.arrow",
        ),
    ]
)
WHOLE = picture(0)
TEXTS = st.sampled_from(
    [
        *(b"", b"no picture", b"file_name,text\na.png,x\n", b"file_name\n", b'"', b"\xff\xfe\xff", b"a;b\n\xe9"),
        *(b'{"file_name": "a.png", "text": "\\ud800"}\n', b'{"file_name": 5}\n', b"[" * 100_000, b'{"splits": [1]}'),
        *(b'{"splits": "train"}', b"{}", b"null", b"\0" * 600, POINTER, b"PAR1", b"PK\x03\x04", b"PAR1" * 9),
    ]
)


@st.composite
def contents(draw: st.DrawFn) -> bytes:
    kind = draw(st.integers(0, 4))
    if kind == 0:
        return draw(TEXTS)
    data = {1: WHOLE, 2: TAR, 3: PARQUET}.get(kind, WHOLE)
    if draw(st.booleans()):
        return data
    cut = draw(st.integers(0, len(data)))
    hurt = bytearray(data[: cut if draw(st.booleans()) else len(data)])
    for _ in range(draw(st.integers(0, 3)) if hurt else 0):
        hurt[draw(st.integers(0, len(hurt) - 1))] = draw(st.integers(0, 255))
    return bytes(hurt)


def _bytes_of(make: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        if make == "tar":
            odd_texts(root)
            return (root / "shard.tar").read_bytes()
        parquet(root, "a.parquet", 2)
        return (root / "a.parquet").read_bytes()


TAR, PARQUET = _bytes_of("tar"), _bytes_of("parquet")
PLACES = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
TARGETS = st.sampled_from([".", "..", "../..", "a.png", "cat", "dog", "../cat", "gone"])


@settings(max_examples=200, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    whole=st.lists(PLACES.map(lambda place: f"{place}/whole.png"), max_size=3),
    files=st.dictionaries(PLACES, contents(), max_size=6),
    links=st.dictionaries(
        PLACES, st.sampled_from([".", "..", "/", "a.png", "cat", "dog", "../cat", "gone"]), max_size=3
    ),
    within=st.sampled_from(["", "", "", "/cat", "/a.png", "/c.tar", "/d.parquet", "/*.parquet", "/#label=x"]),
)
def test_whatever_lies_in_a_folder_comes_to_a_set_or_to_an_error_of_ours(
    tmp_path_factory: pytest.TempPathFactory,
    whole: list[str],
    files: dict[str, bytes],
    links: dict[str, str],
    within: str,
) -> None:
    root = tmp_path_factory.mktemp("tree") / "and" / "above"  # a link to what is above leads to nothing else
    root.mkdir(parents=True)
    for name, data in (dict.fromkeys(whole, WHOLE) | files).items():
        with_parents(root, name, lambda path, data=data: path.write_bytes(data))
    for name, target in links.items():
        with_parents(root, name, lambda path, target=target: path.symlink_to(target))
    found = outcome(f"{root}{within}")
    if isinstance(found, AtlasError):
        assert str(found).encode()  # no lone surrogates: it can be printed
        return
    assert len(found) == len({image.id for image in found.images}) > 0
    assert "\n".join(summary_of(found)).encode()
    assert found.said
    again = open_probe_set(f"{root}{within}")
    assert (again.identity, again.skipped, again.remarks) == (found.identity, found.skipped, found.remarks)


def outcome(spec: str) -> ProbeSet | AtlasError:
    try:
        return open_probe_set(spec)
    except AtlasError as error:
        return error


def with_parents(root: Path, name: str, make: Callable[[Path], object]) -> None:
    """Make a file or a link in the tree, where nothing is in its way and no link leads out of it."""
    path = root / name
    if path.parent.resolve().is_relative_to(root.resolve()):
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            make(path)
