"""What a probe set says of neurons, as files of the site: examples, counterparts, clusters, search, probe images."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import struct
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from drawn_atlas import EVIDENT, FURTHER, INVERTED, Drawn, draw_atlas
from drawn_evidence import PROBE_SET, PROBE_SET_UNFREE, has_label, label_of
from hypothesis import given
from hypothesis import strategies as st

from atlas_schema.read import Atlas
from atlas_schema.searching import words_of
from atlas_schema.store import Store
from atlas_schema.tables import NEURON_EXAMPLES, NEURON_MATCHES
from site_builder import budget
from site_builder.build import SiteReport, build_site
from site_builder.clusters import Pair, mutual_pairs, rosetta_clusters
from site_builder.maps import MAP_SIDE, block_maxima, map_texts
from site_builder.outline import Neuron, outline_of
from site_builder.search_index import Labelled, index_files, search_index
from site_builder.sections.examples import example_packs
from site_builder.sections.probes import PROBE_BUNDLE
from site_builder.survey import survey
from tests.atlas_schema.made_atlas import as_of_2_0_0


@pytest.fixture(scope="module")
def built(evident_atlas: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SiteReport]:
    out = tmp_path_factory.mktemp("site") / "pages"
    return out, build_site(evident_atlas, out)


def manifest_of(site: Path) -> dict[str, Any]:
    found = re.search(r'id="manifest">(.*?)</script>', (site / "index.html").read_text(encoding="utf-8"), re.S)
    assert found
    return json.loads(found[1])


def entry_of(site: Path, slug: str) -> dict[str, Any]:
    return next(entry for entry in manifest_of(site)["models"] if entry["slug"] == slug)


def unpack(data: bytes) -> Any:
    return json.loads(gzip.decompress(data))


def rows_of(pack: Any, unit: int) -> list[dict[str, Any]]:
    """Rows of a unit in a pack, as the browser reads them."""
    places = [at for at, one in enumerate(pack["columns"]["unit"]) if one == unit]
    return [pack["shared"] | {name: values[at] for name, values in pack["columns"].items()} for at in places]


def test_the_page_is_told_what_stages_each_model_has(built: tuple[Path, SiteReport]) -> None:
    stages = {entry["slug"]: set(entry["stages"]) for entry in manifest_of(built[0])["models"]}
    assert stages == {model.slug: set(model.stages) - {*FURTHER, INVERTED} for model in EVIDENT}


def test_an_atlas_of_pictures_alone_has_no_files_of_evidence(small_atlas: Path, tmp_path: Path) -> None:
    build_site(small_atlas, tmp_path / "site")
    manifest = manifest_of(tmp_path / "site")
    assert (manifest["probes"], manifest["clusters"], manifest["search"]) == ({}, None, None)
    assert all(entry["stages"] == ["visualize"] for entry in manifest["models"])
    assert not [path for name in ("p", "r", "s") for path in (tmp_path / "site" / name).rglob("*")]
    assert not list((tmp_path / "site").rglob("*-examples-*"))


@pytest.mark.parametrize(
    ("slug", "layer", "unit"), [("drawn-vit", 1, 70), ("drawn-swin", 0, 8), ("drawn-probed", 0, 3)]
)
def test_a_pack_gives_back_every_example_and_its_map_to_sixteen_levels(
    slug: str, layer: int, unit: int, built: tuple[Path, SiteReport], evident_atlas: Path
) -> None:
    place = entry_of(built[0], slug)["layers"][layer]
    found = rows_of(unpack((built[0] / place["examples"] / f"{unit // 64:05d}.json.gz").read_bytes()), unit)
    table = Atlas(str(evident_atlas)).examples(slug, layer)
    assert table is not None
    truth = [row for row in table.to_pylist() if row["unit"] == unit]
    assert len(found) == len(truth) == 14
    for shown, row in zip(found, truth, strict=True):
        assert (shown["kind"], shown["image"], shown["probe"]) == (row["kind"], row["image_index"], row["probe_set"])
        assert shown["activation"] == pytest.approx(row["activation"], rel=1e-3)
        assert (shown["row"], shown["column"], shown["box"]) == (row["row"], row["column"], None)
        pixels = np.frombuffer(row["map"], np.uint8).reshape(row["map_height"], row["map_width"])
        levels = np.array([int(digit, 16) for digit in shown["map"]]) / 15
        assert np.abs(levels - block_maxima(pixels[None])[0].ravel() / 255).max() <= 0.5 / 15 + 1e-6


@pytest.mark.parametrize(("slug", "layer", "unit"), [("drawn-vit", 1, 70), ("drawn-swin", 0, 8), ("drawn-swin", 0, 4)])
def test_a_bundle_gives_back_every_further_picture(
    slug: str, layer: int, unit: int, built: tuple[Path, SiteReport], evident_atlas: Path
) -> None:
    place = entry_of(built[0], slug)["layers"][layer]
    bundle = (built[0] / place["pictures"] / f"{unit // place['further']:05d}.images").read_bytes()
    (length,) = struct.unpack_from("<I", bundle)
    said, start, found = json.loads(bundle[4 : 4 + length]), 4 + length, []
    for one in said:
        found.append((one, bundle[start : start + one["length"]]))
        start += one["length"]
    assert start == len(bundle)
    table = Atlas(str(evident_atlas)).pictures(slug, layer)
    assert table is not None
    truth = [row for row in table.to_pylist() if row["unit"] == unit]
    own = [(one, webp) for one, webp in found if one["unit"] == unit]
    names = ("recipe", "variant", "status", "verdict", "start_image")
    assert [tuple(one.get(name) for name in names) for one, _ in own] == [
        tuple(row[name] for name in names) for row in truth
    ]
    assert [(one["recipe"], one["variant"]) for one, _ in own] == [("accentuated", 0), ("accentuated", 1), ("peak", 0)]
    assert [webp for _, webp in own] == [(row["image"] or {}).get("bytes") or b"" for row in truth]


def test_the_atlas_gives_the_images_that_excite_several_neurons(evident_atlas: Path) -> None:
    atlas = Atlas(str(evident_atlas))
    asked = ["drawn-vit/mlp/0/8", "drawn-swin/mlp/0/4", "drawn-vit/mlp/0/9", "drawn-vit/mlp/0/8"]
    found = atlas.exciting(asked, 3)
    assert [str(one) for one in found] == asked[:3], "one that is asked for twice is there once"
    for address, pictures in found.items():
        rows = atlas.examples(address.slug, address.layer)
        assert rows is not None
        own = [row for row in rows.to_pylist() if row["unit"] == address.unit and row["kind"] == "top"]
        best = sorted(own, key=lambda row: row["rank"])[:3]
        held = atlas.probe_images(best[0]["probe_set"]).to_pylist()
        thumbnails = {row["index"]: row["thumbnail"] for row in held}
        truth = [thumbnails[row["image_index"]] for row in best]
        assert pictures == [one["bytes"] for one in truth if one]
        assert len(pictures) > 0


def test_large_maps_become_block_maxima_that_cover_every_token() -> None:
    rng = np.random.default_rng(0)
    maps = rng.integers(0, 256, (3, 56, 40)).astype(np.uint8)
    reduced = block_maxima(maps)
    assert reduced.shape == (3, 28, 20)
    assert (reduced == maps.reshape(3, 28, 2, 20, 2).max((2, 4))).all()
    odd = block_maxima(maps[:, :31, :29])
    assert odd.shape == (3, 16, 15)
    assert odd.max() == maps[:, :31, :29].max()
    small = maps[:, :MAP_SIDE, :MAP_SIDE]
    assert block_maxima(small) is small
    assert map_texts([bytes([0, 255, 8, 9])], [2], [2]) == ["0f01"]


def example_table(units: int, side: int, box: dict[str, float] | None = None) -> pa.Table:
    """Examples of a layer whose maps look like those of a GELU: noise, most of it below 0."""
    rng = np.random.default_rng(1)
    rows = []
    for unit in range(units):
        for rank in range(14):
            field = rng.normal(-1, 1, (side, side))
            field = np.where(field > 0, field, -0.17 * rng.random((side, side)))
            pixels = np.round(255 * (field - field.min()) / (field.max() - field.min())).astype(np.uint8)
            row, column = divmod(int(pixels.argmax()), side)
            rows.append(
                {
                    "unit": unit,
                    "kind": "top",
                    "rank": rank,
                    "image_index": int(rng.integers(50_000)),
                    "image": "x",
                    "probe_set": PROBE_SET,
                    "activation": float(rng.lognormal()),
                    "activation_mean": float(rng.lognormal()) / 9,
                    "quantile": 1 - rank / 50_000,
                    "map": pixels.tobytes(),
                    "map_height": side,
                    "map_width": side,
                    "map_low": -0.17 * float(rng.random()),
                    "map_high": float(rng.lognormal()),
                    "row": row,
                    "column": column,
                    "scale": 0,
                    "box": box
                    or {
                        "left": column / side,
                        "top": row / side,
                        "right": (column + 1) / side,
                        "bottom": (row + 1) / side,
                    },
                }
            )
    return pa.Table.from_pylist(rows, schema=NEURON_EXAMPLES.schema())


def test_examples_of_all_neurons_of_a_vit_small_stay_in_tens_of_megabytes() -> None:
    """18,432 neurons, 14 examples each, maps of 16 x 16 tokens (the trained ViT of the fixtures)."""
    packs = example_packs(example_table(64, 16), range(64), names=False)
    assert sum(map(len, packs.values())) * 18_432 / 64 < 30e6


def test_a_box_that_is_not_a_cell_of_the_grid_is_kept() -> None:
    box = {"left": 0.1, "top": 0.2, "right": 0.45, "bottom": 0.5}
    pack = unpack(example_packs(example_table(1, 8, box), range(1), names=False)["00000.json.gz"])
    assert pack["shared"]["box"] == [0.1, 0.2, 0.45, 0.5]
    assert "name" not in pack["shared"]
    assert (
        rows_of(unpack(example_packs(example_table(1, 8), range(1), names=True)["00000.json.gz"]), 0)[0]["name"] == "x"
    )


def test_a_page_may_ask_for_every_pack_of_its_layer() -> None:
    packs = example_packs(example_table(2, 8), [0, 1, 64, 200], names=False)
    assert sorted(packs) == ["00000.json.gz", "00001.json.gz", "00003.json.gz"]
    assert unpack(packs["00003.json.gz"])["columns"]["unit"] == []


def test_without_a_list_of_probe_images_examples_carry_their_names(tmp_path: Path) -> None:
    """Probe images may be left out of an atlas (--probe-images none)."""
    atlas = draw_atlas(tmp_path / "atlas", (Drawn("one", (8,), stages=EVIDENT[2].stages, probe_set=PROBE_SET),))
    shutil.rmtree(Path(atlas) / "probe_images")
    build_site(atlas, tmp_path / "site")
    assert manifest_of(tmp_path / "site")["probes"] == {}
    place = entry_of(tmp_path / "site", "one")["layers"][0]
    found = rows_of(unpack((tmp_path / "site" / place["examples"] / "00000.json.gz").read_bytes()), 3)
    table = Atlas(atlas).examples("one", 0)
    assert table is not None
    assert [row["name"] for row in found] == [row["image"] for row in table.to_pylist() if row["unit"] == 3]


def test_bundles_hold_thumbnails_untouched_and_what_is_known(
    built: tuple[Path, SiteReport], evident_atlas: Path
) -> None:
    for probe_set, free in ((PROBE_SET, True), (PROBE_SET_UNFREE, False)):
        about = manifest_of(built[0])["probes"][probe_set]
        truth = Atlas(str(evident_atlas)).probe_images(probe_set).to_pylist()
        assert (about["images"], about["thumbnails"]) == (len(truth), free)
        for row in truth[:: PROBE_BUNDLE + 1]:
            number = row["index"] // PROBE_BUNDLE
            data = (built[0] / about["folder"] / "00" / f"{number:05d}.images").read_bytes()
            length = int.from_bytes(data[:4], "little")
            said, start = json.loads(data[4 : 4 + length]), 4 + length
            slot = row["index"] % PROBE_BUNDLE
            start += sum(image["length"] for image in said[:slot])
            assert data[start : start + said[slot]["length"]] == (row["thumbnail"]["bytes"] if free else b"")
            assert (said[slot]["image"], said[slot]["class"]) == (row["image"], row["class"])
            assert said[slot].get("licence") == row["licence"]


def test_counterparts_carry_their_labels_and_clusters(built: tuple[Path, SiteReport], evident_atlas: Path) -> None:
    place = entry_of(built[0], "drawn-vit")["layers"][1]
    found = rows_of(unpack((built[0] / place["matches"] / "00000.json.gz").read_bytes()), 8)
    table = Atlas(str(evident_atlas)).matches("drawn-vit", 1)
    assert table is not None
    truth = [row for row in table.to_pylist() if row["unit"] == 8]
    assert len(found) == len(truth) == 5
    for shown, row in zip(found, truth, strict=True):
        address = f"{shown['slug']}/mlp/{shown['layer']}/{shown['partner']}"
        assert (address, bool(shown["mutual"])) == (row["partner"], row["mutual"])
        assert shown["correlation"] == pytest.approx(row["correlation"], abs=1e-4)
        assert shown["label"] == (label_of(row["partner_unit"]) if has_label(row["partner_unit"]) else None)
    assert {row["cluster"] for row in found} == {found[0]["cluster"]}
    about = manifest_of(built[0])["clusters"]
    assert about["clusters"] == 10  # units 0, 8, 16, 24 and 32 of layers 0 and 1
    pack = unpack((built[0] / about["folder"] / "00000.json.gz").read_bytes())
    cluster = pack[found[0]["cluster"]]
    members = [[slug, 1, 8, label_of(8)] for slug in ("drawn-pit", "drawn-swin", "drawn-vit")]
    assert cluster["members"] == members
    assert [pair[:2] for pair in cluster["pairs"]] == [[0, 1], [0, 2], [1, 2]]


EDGES = st.sets(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 3), st.integers(0, 3)), max_size=24)


@given(EDGES, st.randoms())
def test_clusters_are_the_best_cliques_one_after_the_other(edges: set[tuple[int, int, int, int]], random: Any) -> None:
    """Against trying every subset, as the pipeline's definition reads."""
    chosen: dict[tuple[Neuron, str], Pair] = {}
    for a, b, unit, other in sorted(edges):
        first, second = (f"m{min(a, b)}", 0, unit), (f"m{max(a, b)}", 0, other)
        # a neuron has one mutual best in a model at most
        if a != b and (first, second[0]) not in chosen and (second, first[0]) not in chosen:
            pair = Pair(first, second, ((a + 2 * b + unit + 3 * other) % 7) / 7, None)
            chosen[first, second[0]] = chosen[second, first[0]] = pair
    pairs = [*chosen.values()]
    random.shuffle(pairs)
    found = rosetta_clusters(pairs)

    told = {frozenset((pair.first, pair.second)): pair.correlation for pair in pairs}
    left, expected = {neuron for ends in told for neuron in ends}, []
    while True:
        cliques = [
            (-size, -sum(told[frozenset(two)] for two in combinations(members, 2)) / (size * (size - 1) / 2), members)
            for size in (5, 4, 3)
            for members in combinations(sorted(left), size)
            if all(frozenset(two) in told for two in combinations(members, 2))
        ]
        if not cliques:
            break
        expected.append(min(cliques)[2])
        left -= set(expected[-1])
    assert [cluster.members for cluster in found] == expected


def test_pairs_are_mutual_best_significant_and_of_two_models() -> None:
    kept = {"slug": "b", "layer": 1, "unit": 2, "partner_slug": "a", "partner_layer": 0, "partner_unit": 7, "rank": 0}
    kept |= {"mutual": True, "significant": True, "correlation": 0.9, "null_correlation": 0.1}
    others = [{"rank": 1}, {"mutual": False}, {"mutual": None}, {"significant": False}, {"partner_slug": "b"}]
    rows = pa.Table.from_pylist([kept, *(kept | other for other in others)])
    assert mutual_pairs(rows) == [Pair(("a", 0, 7), ("b", 1, 2), 0.9, 0.1)]


def found_by(files: dict[str, bytes], about: dict[str, Any], query: str) -> set[tuple[str, int]]:
    """(label, neurons) of a query, as labels.js finds them."""
    hits = []
    for start in words_of(query):
        shards = [prefix for prefix in about["prefixes"] if prefix.startswith(start[: about["prefix"]])]
        texts: set[tuple[str, int]] = set()
        for prefix in shards:
            name = "-".join(f"{ord(letter):x}" for letter in prefix) or "all"
            for word, listed in unpack(files[f"w/{name}.json.gz"]).items():
                texts |= {(text, neurons) for _, text, neurons in listed if word.startswith(start)}
        hits.append(texts)
    return set.intersection(*hits) if hits else set()


TEXTS = st.text(st.sampled_from("ab c-éÉß日<"), min_size=1, max_size=9)


@given(st.lists(TEXTS, min_size=1, max_size=30))
def test_every_label_is_found_by_its_words_and_by_how_they_begin(texts: list[str]) -> None:
    labelled = [Labelled(("m", 0, unit), text, 5.0, 0.9) for unit, text in enumerate(texts)]
    files, about = search_index(labelled, ["m"])
    assert len(files) == index_files(texts)
    for text in texts:
        for query in (text, " ".join(word[:1] for word in words_of(text))):
            if words_of(query):
                assert (text, texts.count(text)) in found_by(files, about, query)


def test_many_words_are_parted_by_their_first_letters() -> None:
    letters = "abcdefghijklmnop"
    texts = [f"{a}{b}{c} thing" for a in letters for b in letters for c in letters]
    labelled = [Labelled(("m", 1, unit), text, float(unit % 9), None) for unit, text in enumerate(texts)]
    files, about = search_index(labelled, ["other", "m"])
    assert (about["prefix"], about["texts"], len(files)) == (1, len(texts), index_files(texts))
    assert {text for text, _ in found_by(files, about, "abc")} == {"abc thing"}
    assert len(found_by(files, about, "b thi")) == 256
    number = sorted(texts).index("abc thing")
    postings = unpack(files[f"t/{number // about['pack']:05d}.json.gz"])[number % about["pack"]]
    assert postings == [[1, 1, texts.index("abc thing"), float(texts.index("abc thing") % 9), None, -1]]


def test_neurons_of_a_label_come_most_certain_first() -> None:
    labelled = [Labelled(("m", 0, unit), "dog", z, 0.8) for unit, z in enumerate([3.0, None, 9.0, 9.0])]
    files, _ = search_index(labelled, ["m"])
    assert [row[2] for row in unpack(files["t/00000.json.gz"])[0]] == [2, 3, 0, 1]


def test_the_index_of_the_site_knows_every_label(built: tuple[Path, SiteReport], evident_atlas: Path) -> None:
    about = manifest_of(built[0])["search"]
    labels = outline_of(Atlas(str(evident_atlas))).labels
    assert about["neurons"] == len(labels) > 200
    assert about["texts"] == len(set(labels.values()))


def test_the_size_with_evidence_is_foretold_from_above(built: tuple[Path, SiteReport], evident_atlas: Path) -> None:
    size = budget.estimate(survey(Atlas(str(evident_atlas))), "sprite")
    assert built[1].bytes <= size.bytes < 2.5 * built[1].bytes
    assert built[1].files <= size.files <= built[1].files + 10


def test_new_counterparts_leave_pictures_and_examples_alone(tmp_path: Path) -> None:
    models = (Drawn("one", (24,), stages=EVIDENT[1].stages, probe_set=PROBE_SET),)
    atlas = draw_atlas(tmp_path / "atlas", models)
    build_site(atlas, tmp_path / "site")
    before = entry_of(tmp_path / "site", "one")["layers"][0]
    store = Store(atlas)
    path = next(path for path in store.list(NEURON_MATCHES.name) if path.endswith(".parquet"))
    (Path(atlas) / path).unlink()
    report = build_site(atlas, tmp_path / "site")
    after = entry_of(tmp_path / "site", "one")["layers"][0]
    assert report.counts["layers_reused"] == 1
    assert "matches" not in after
    assert {"folder": after["folder"], "examples": after["examples"]} == {
        "folder": before["folder"],
        "examples": before["examples"],
    }
    assert not (tmp_path / "site" / before["matches"]).exists()


def test_an_atlas_of_an_older_minor_version_becomes_a_site(evident_atlas: Path, tmp_path: Path) -> None:
    """What has no verdict and no threshold is shown without; the same builds again with nothing new."""
    store = Store(str(shutil.copytree(evident_atlas, tmp_path / "atlas")))
    as_of_2_0_0(store)
    build_site(store.url, tmp_path / "site")
    page = (tmp_path / "site" / "index.html").read_text()
    assert "drawn-vit" in page
    file = next((tmp_path / "site" / "d" / "drawn-vit").glob("00001-matches*/00000.json.gz"))
    pack = json.loads(gzip.decompress(file.read_bytes()))
    assert pack["shared"]["threshold"] is None
