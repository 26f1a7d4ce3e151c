"""The map of neurons: who is near whom and why, the files that a browser reads, and that nothing is laid out twice."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_atlas import PROBE_SET
from PIL import Image
from test_build import manifest_of, stamps

from atlas_schema.errors import BadConfig
from atlas_schema.read import Atlas
from jobs.commands.site import build as command
from site_builder.build import build_site, measure, plan_site
from site_builder.neuron_map import features, layout, nodes
from site_builder.outline import Layer, outline_of
from site_builder.sections import ON_REQUEST, neuron_map, neurons
from site_builder.sprites import thumbnail

WITH_MAP = (neurons.SECTION, *ON_REQUEST)
NO_KINDS = features.Kinds(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))


def planted(groups: int, each: int, seed: int = 0) -> tuple[features.Fired, np.ndarray]:
    """Neurons in groups, each of which fires on any nine of its group's 30 images; a last neuron fires on none."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(groups), each)
    images = np.concatenate([30 * own + rng.permutation(30)[:9] for own in group])
    named = tuple(("set", index) for index in range(30 * groups))
    return features.Fired(len(group) + 1, np.repeat(np.arange(len(group)), 9), images, named), group


def test_neurons_that_fire_on_the_same_images_have_like_rows_and_one_that_no_image_fires_has_none() -> None:
    fires, group = planted(12, 20)
    rows, there = features.features(fires, NO_KINDS, 0)
    assert there.tolist() == [True] * 240 + [False]
    assert not rows[-1].any()
    assert np.allclose(np.linalg.norm(rows[:-1], axis=1), 1, atol=1e-5)
    found = layout.neighbours(rows[:-1], np.arange(240))
    assert (group[found] == group[:, None]).mean() > 0.9, "by chance 8 %"


def test_neurons_that_share_no_image_are_near_by_what_their_images_are() -> None:
    """Two groups' images are of one kind: without their kinds nothing tells that these belong together."""
    fires, group = planted(12, 20)
    kinds = features.Kinds(np.arange(360), np.arange(360) // 60, np.full(6, 1 / 6))
    rows, _ = features.features(fires, kinds, 0)
    cosine = rows[:-1] @ rows[:-1].T / (1 + features.KINDS**2)
    pair, own = group[:, None] // 2 == group // 2, group[:, None] == group
    assert cosine[own].mean() > cosine[pair & ~own].mean() > cosine[~pair].mean() + 0.5


def test_what_images_are_is_read_with_how_common_it_is(evident_atlas: Path) -> None:
    atlas = Atlas(str(evident_atlas))
    rows = atlas.probe_images(PROBE_SET, ["index", "class", "attributes"]).to_pylist()
    found = features.kinds_of(atlas, [(PROBE_SET, 3), ("elsewhere", 3), (PROBE_SET, 0)])
    assert set(found.image.tolist()) == {0, 2}
    common = [row["class"] for row in rows].count(rows[3]["class"]) / len(rows)
    assert np.isclose(found.share[found.kind[found.image == 0]], common).any()


def test_the_strongest_images_of_a_neuron_are_those_of_the_table(evident_atlas: Path) -> None:
    outline = outline_of(Atlas(str(evident_atlas)))
    layers = [layer for layer in outline.layers if layer.slug == "drawn-pit"]
    fires = features.fired(outline.atlas, layers)
    truth = outline.atlas.examples("drawn-pit", 1).to_pylist()
    own = {(row["probe_set"], row["image_index"]) for row in truth if row["unit"] == 9 and row["kind"] == "top"}
    first = len(layers[0].units)
    assert {fires.images[at] for at in fires.image[fires.neuron == first + layers[1].units.index(9)]} == own
    assert fires.neurons == 72 + 64


def test_a_layout_is_the_same_again_and_keeps_more_of_who_is_near_than_the_plane_of_greatest_spread() -> None:
    fires, group = planted(12, 20)
    rows = features.features(fires, NO_KINDS, 0)[0][:-1]
    places = layout.lay_out(rows)
    assert places.min() >= 0
    assert places.max() <= 1
    assert np.isclose(np.ptp(places, axis=0).max(), 1, atol=1e-5)
    assert layout.lay_out(rows).tobytes() == places.tobytes()
    kept = layout.kept(rows, places)
    assert kept["map"] > 1.5 * kept["pca"] > 4 * kept["chance"]
    alike = layout.alike(places, group)
    assert alike is not None
    assert alike["chance"] == pytest.approx(1 / 12)
    assert alike["map"] > 0.8


def test_of_many_neurons_some_are_laid_out_and_the_others_come_amid_their_nearest() -> None:
    fires, group = planted(12, 20)
    rows = features.features(fires, NO_KINDS, 0)[0][:-1]
    alike = layout.alike(layout.lay_out(rows, most=120), group)
    assert alike is not None
    assert alike["map"] > 0.7


def test_neighbours_are_those_of_a_plain_sort_and_never_the_neuron_itself() -> None:
    rows = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    rows[7] = rows[8] = rows[9]
    found = layout.neighbours(rows, np.arange(40), 5)
    for own in range(40):
        far = np.linalg.norm(rows - rows[own], axis=1)
        far[own] = np.inf
        assert np.allclose(np.sort(far[found[own]]), np.sort(far)[:5])
    assert (found != np.arange(40)[:, None]).all()


def test_labels_judge_a_map_where_enough_neurons_have_one() -> None:
    places = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
    assert layout.alike(places, np.where(np.arange(40) < 5, 0, -1)) is None


@pytest.mark.parametrize("count", [0, 1, 11, 12, 13, 60, 1000])
def test_every_neuron_is_in_one_node_inside_the_box_of_all_above(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "NODE", 8)
    places = np.random.default_rng(count).integers(0, 65_535, (count, 2)).astype(np.uint16)
    tree = nodes.nodes_of(places)
    assert len(tree) == nodes.node_count(count)
    members = np.concatenate([np.empty(0, np.int64), *(node.members for node in tree)])
    assert sorted(members.tolist()) == list(range(count))
    for number, node in enumerate(tree):
        assert node.parent < number
        at = number
        while at >= 0:
            left, top, right, bottom = tree[at].box
            own = places[node.members]
            assert ((own >= (left, top)) & (own <= (right, bottom))).all()
            at = tree[at].parent
    assert all(len(node.members) <= 12 for node in tree)


def test_a_node_holds_its_neurons_column_by_column() -> None:
    places = np.random.default_rng(0).integers(0, 65_535, (30, 2)).astype(np.uint16)
    (node,) = nodes.nodes_of(places)
    columns = {"x": places[:, 0], "verdict": np.arange(30, dtype=np.uint8)}
    ((name, data),) = nodes.node_files([node], columns)
    raw = gzip.decompress(data)
    assert name == "00000.points.gz"
    assert np.frombuffer(raw[:60], "<u2").tolist() == places[node.members, 0].tolist()
    assert list(raw[60:]) == node.members.tolist()


def test_pictures_come_with_the_first_nodes_until_there_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "NODE", 64)
    monkeypatch.setattr(nodes, "MOST_PICTURES", 150)
    tree = nodes.nodes_of(np.random.default_rng(0).integers(0, 65_535, (400, 2)).astype(np.uint16))
    sheets = nodes.sheets_of(tree)
    assert [sum(map(len, own)) for own in sheets] == [64, 64] + [0] * (len(tree) - 2)
    assert sum(map(len, sheets)) <= nodes.sheet_count(400)


def test_a_region_is_named_by_its_most_frequent_label() -> None:
    places = np.array([[100 + at, 100] for at in range(8)] + [[60_000, 60_000]] * 2, np.uint16)
    labels = np.array([2, 2, 2, 2, 1, -1, -1, -1, 0, 0])
    assert nodes.region_names(places, labels) == [(102, 100, 2, 4)], "two neurons are no region"


@pytest.fixture(scope="module")
def mapped(evident_atlas: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("mapped") / "site"
    build_site(evident_atlas, out, sections=WITH_MAP)
    return out


def test_a_site_has_a_map_of_each_model_with_examples_and_one_of_all(
    mapped: Path, unpacked: Callable[[Path], Any]
) -> None:
    manifest = manifest_of(mapped)
    own = {model["slug"]: model["map"]["neurons"] for model in manifest["models"] if "map" in model}
    assert own.keys() == {"drawn-pit", "drawn-probed", "drawn-swin", "drawn-unseen", "drawn-vit"}
    assert manifest["map"]["neurons"] == sum(own.values())
    folder = mapped / next(model["map"]["folder"] for model in manifest["models"] if model["slug"] == "drawn-pit")
    index = unpacked(folder / "index.json.gz")
    (node,) = index["nodes"]
    count = index["neurons"]
    assert node[4] == count
    assert index["absent"] == 72 + 64 - count
    raw = gzip.decompress((folder / "00000.points.gz").read_bytes())
    assert len(raw) == nodes.POINT_BYTES * count
    x, y, layer, unit, label = (np.frombuffer(raw, "<u2", count, 2 * at * count) for at in range(5))
    assert node[:4] == [x.min(), y.min(), x.max(), y.max()]
    assert [index["layers"][at] for at in (0, 1)] == [["drawn-pit", 0], ["drawn-pit", 1]]
    assert set(zip(layer.tolist(), unit.tolist(), strict=True)) <= {(0, at) for at in range(72)} | {
        (1, at) for at in range(64)
    }
    assert {index["texts"][at] for at in label.tolist() if at != nodes.NO_LABEL} == set(index["texts"])
    assert 0 < index["kept"]["chance"] < 1


def test_a_neurons_picture_label_and_verdict_on_a_map_are_its_own(
    mapped: Path, evident_atlas: Path, unpacked: Callable[[Path], Any]
) -> None:
    folder = mapped / next(m["map"]["folder"] for m in manifest_of(mapped)["models"] if m["slug"] == "drawn-vit")
    index, atlas = unpacked(folder / "index.json.gz"), Atlas(str(evident_atlas))
    count = index["neurons"]
    raw = gzip.decompress((folder / "00000.points.gz").read_bytes())
    layer, unit, label = (np.frombuffer(raw, "<u2", count, 2 * at * count) for at in (2, 3, 4))
    for at in range(0, count, 23):
        address = f"drawn-vit/mlp/{index['layers'][layer[at]][1]}/{unit[at]}"
        row = atlas.neuron(address, ["label", "verdict"])
        assert (index["texts"][label[at]] if label[at] != nodes.NO_LABEL else None) == row["label"]
        verdict = raw[10 * count + at]
        assert (neuron_map.VERDICTS[verdict] if verdict != nodes.NO_VERDICT else None) == row["verdict"]
        sheet = np.asarray(Image.open(folder / f"00000-{at // nodes.SHEET:03d}.webp").convert("RGB")).astype(float)
        left, top = at % nodes.SHEET % nodes.COLUMNS * nodes.TILE, at % nodes.SHEET // nodes.COLUMNS * nodes.TILE
        tile = sheet[top : top + nodes.TILE, left : left + nodes.TILE]
        truth = np.asarray(thumbnail(atlas.picture(address), nodes.TILE)).astype(float)
        assert np.abs(tile - truth).mean() < 14, address


def test_a_map_stays_within_what_was_said_of_its_size(mapped: Path, evident_atlas: Path) -> None:
    said, _ = plan_site(evident_atlas, sections=WITH_MAP)
    without, _ = plan_site(evident_atlas, sections=WITH_MAP[:1])
    found = measure(mapped / "map")
    assert found.files <= said.files - without.files
    assert found.bytes <= said.bytes - without.bytes


def test_nothing_is_laid_out_again_and_a_build_without_a_map_takes_it_away(
    mapped: Path, evident_atlas: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(mapped, tmp_path / "site")
    before = stamps(tmp_path / "site")
    monkeypatch.setattr(layout, "lay_out", None)  # whoever lays out fails
    build_site(evident_atlas, tmp_path / "site", sections=WITH_MAP)
    after = stamps(tmp_path / "site")
    assert {name for name in after if before.get(name) != after[name]} <= {
        "index.html",
        "404.html",
        ".neuron-atlas-site",
        ".nojekyll",
    }
    build_site(evident_atlas, tmp_path / "site", sections=WITH_MAP[:1])
    assert not [*(tmp_path / "site" / "map").glob("*")]


def test_what_changes_beside_the_examples_lays_nothing_out_again(
    mapped: Path, evident_atlas: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Labels, verdicts and pictures are in the neurons' shards: a map has them, its layout does not."""
    shutil.copytree(mapped, tmp_path / "site")
    told = neuron_map.content_of
    monkeypatch.setattr(
        neuron_map, "content_of", lambda atlas, path: told(atlas, path) + b"anew" * path.startswith("neurons/")
    )
    monkeypatch.setattr(layout, "lay_out", None)  # whoever lays out fails
    build_site(evident_atlas, tmp_path / "site", sections=WITH_MAP)
    before, after = ({path.name for path in (site / "map").iterdir()} for site in (mapped, tmp_path / "site"))
    assert before & after == {name for name in before if "-layout-" in name}
    assert len(after) == len(before)


def test_a_map_that_is_asked_for_without_its_library_says_what_to_do(
    small_atlas: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BadConfig, match=r"pip install 'neuron-atlas\[map\]'"):
        build_site(small_atlas, tmp_path / "site", sections=WITH_MAP)
    assert not (tmp_path / "site").exists()


def test_the_command_lays_a_map_out_where_it_is_asked_for_one(
    evident_atlas: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = []
    for asked in (False, True):
        assert command(str(evident_atlas), out=tmp_path / "site", with_map=asked, dry_run=True, as_json=True) == 0
        sizes.append(json.loads(capsys.readouterr().out)["files"])
    assert sizes[1] > sizes[0]


def test_an_atlas_without_examples_has_no_map(small_atlas: Path, tmp_path: Path) -> None:
    build_site(small_atlas, tmp_path / "site", sections=WITH_MAP)
    assert manifest_of(tmp_path / "site")["map"] is None
    assert not [*(tmp_path / "site").glob("map/*")]


def test_too_few_neurons_make_no_map(evident_atlas: Path) -> None:
    outline = outline_of(Atlas(str(evident_atlas)))
    few = [Layer(layer.slug, layer.layer, layer.layers, layer.units[:5]) for layer in outline.layers]
    held = neuron_map.survey(replace(outline, layers=few[:1]))
    assert held.scopes == ()
