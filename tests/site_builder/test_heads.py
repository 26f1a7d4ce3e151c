"""What is said of attention heads, as files of the site: figures, texts, maps, features, readers, search."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from drawn_atlas import Drawn, draw_atlas
from drawn_evidence import PROBE_SET, has_label, label_of
from drawn_heads import FEATURES, texts_of
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from atlas_schema.errors import ShardCorrupt
from atlas_schema.head_tables import HEAD_EXAMPLES, HEAD_FEATURES, HEAD_READS, HEAD_TABLES, HEAD_TEXTS, HEADS
from atlas_schema.read import Atlas
from site_builder import budget
from site_builder.build import SiteReport, build_site
from site_builder.features import CARRIERS, feature_files, spearman
from site_builder.head_tables import READ_PACK, read_packs
from site_builder.heads import FEATURE_FIGURES, NEURONS_READ, Columns, HeadRows, head_files
from site_builder.maps import LEVELS, MAP_SIDE, block_means, signed_texts
from site_builder.survey import survey

EMPTY_ROWS: dict[str, list[Any]] = {}


@pytest.fixture(scope="module")
def built(evident_atlas: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SiteReport]:
    out = tmp_path_factory.mktemp("site") / "pages"
    return out, build_site(evident_atlas, out)


def manifest_of(site: Path) -> dict[str, Any]:
    found = re.search(r'id="manifest">(.*?)</script>', (site / "index.html").read_text(encoding="utf-8"), re.S)
    assert found
    return json.loads(found[1])


def heads_of(site: Path, slug: str) -> dict[str, Any]:
    return next(entry["heads"] for entry in manifest_of(site)["models"] if entry["slug"] == slug)


def unpack(path: Path) -> Any:
    return json.loads(gzip.decompress(path.read_bytes()))


def rows_of(table: dict[str, Any], unit: int | None = None) -> list[dict[str, Any]]:
    """Rows of a table of columns, as the browser reads them."""
    places = [at for at, one in enumerate(table["columns"]["unit"]) if unit in (None, one)]
    return [table["shared"] | {name: values[at] for name, values in table["columns"].items()} for at in places]


def truth_of(atlas: Path, table: Any, slug: str) -> list[dict[str, Any]]:
    return Atlas(str(atlas)).rows(table, slug).to_pylist()


def near(value: Any) -> Any:
    """Four digits are kept."""
    return None if value is None else pytest.approx(value, rel=1e-3)


@pytest.mark.parametrize("slug", ["drawn-vit", "drawn-swin", "drawn-pit"])
def test_the_file_of_all_heads_gives_back_every_figure(
    slug: str, built: tuple[Path, SiteReport], evident_atlas: Path
) -> None:
    table = unpack(built[0] / heads_of(built[0], slug)["folder"] / "heads.json.gz")
    truth = truth_of(evident_atlas, HEADS, slug)
    shown = rows_of(table)
    assert [(row["layer"], row["unit"]) for row in shown] == [(row["layer"], row["head"]) for row in truth]
    for row, wanted in zip(shown, truth, strict=True):
        for name in set(HEADS.names) - {"address", "slug", "head"}:
            value = wanted[name]
            assert row[name] == (near(value) if isinstance(value, float) or name == "spectrum" else value), name
        assert (row["axis_classes"] is None) == (slug == "drawn-swin")
    features = {
        (row["layer"], row["head"], row["feature"]): row for row in truth_of(evident_atlas, HEAD_FEATURES, slug)
    }
    assert sorted(table["scores"]) == ([] if slug == "drawn-pit" else sorted(FEATURES))
    for feature, scores in table["scores"].items():
        own = [features[row["layer"], row["unit"], feature]["score"] for row in shown]
        assert scores == pytest.approx(own, rel=1e-3)


def test_a_layers_file_has_the_texts_features_and_neurons_of_each_head(
    built: tuple[Path, SiteReport], evident_atlas: Path
) -> None:
    pack = unpack(built[0] / heads_of(built[0], "drawn-vit")["folder"] / "00001.json.gz")
    texts = [row for row in truth_of(evident_atlas, HEAD_TEXTS, "drawn-vit") if (row["layer"], row["head"]) == (1, 2)]
    assert [(row["text"], row["cumulative"]) for row in rows_of(pack["texts"], 2)] == [
        (row["text"], near(row["cumulative"])) for row in texts
    ]
    features = [row for row in truth_of(evident_atlas, HEAD_FEATURES, "drawn-vit") if row["component"] == "head/1/2"]
    assert {row["feature"]: row["rank"] for row in rows_of(pack["features"], 2)} == {
        row["feature"]: row["rank"] for row in features
    }
    reads = [
        row
        for row in truth_of(evident_atlas, HEAD_READS, "drawn-vit")
        if (row["reader_layer"], row["reader_head"]) == (1, 2)
    ]
    reads.sort(key=lambda row: (-row["share"], row["layer"], row["unit"]))
    shown = rows_of(pack["neurons"], 2)
    assert len(shown) == NEURONS_READ < len(reads)
    assert [row["share"] for row in shown] == [near(row["share"]) for row in reads[:NEURONS_READ]]
    for row in shown:
        assert row["label"] == (label_of(row["neuron"]) if has_label(row["neuron"]) else None)


@pytest.mark.parametrize(("slug", "layer", "head"), [("drawn-vit", 1, 2), ("drawn-swin", 0, 1)])
def test_maps_keep_their_sign_and_their_values_to_half_a_level(
    slug: str, layer: int, head: int, built: tuple[Path, SiteReport], evident_atlas: Path
) -> None:
    pack = unpack(built[0] / heads_of(built[0], slug)["folder"] / f"{layer:05d}.json.gz")
    truth = [
        row for row in truth_of(evident_atlas, HEAD_EXAMPLES, slug) if (row["layer"], row["head"]) == (layer, head)
    ]
    shown = {(row["direction"], row["image"]): row for row in rows_of(pack["examples"], head)}
    assert len(shown) == len(truth) == 30
    for row in truth:
        found = shown[row["direction"], row["image_index"]]
        values = np.frombuffer(row["map"], np.uint8).reshape(row["map_height"], row["map_width"]) - 128.0
        levels = np.array([int(digit, 32) - LEVELS for digit in found["map"]])
        assert np.abs(levels / LEVELS - block_means(values).ravel() / 127).max() <= 0.5 / LEVELS + 1e-9
        assert (found["projection"], found["scale"]) == (near(row["projection"]), near(row["map_scale"]))
        assert found["elsewhere"] == near(row["elsewhere"])
    order = [(row["direction"], row["image"]) for row in rows_of(pack["examples"], head)]
    assert order == [(row["direction"], row["image_index"]) for row in truth]  # strongest first, as in the dataset


def test_nothing_is_nothing_and_the_ends_are_the_ends() -> None:
    assert signed_texts([bytes([128, 255, 1, 128])], [2], [2]) == ["fu0f"]
    with pytest.raises(ValueError, match="reshape"):
        signed_texts([bytes([128, 255, 1])], [2], [2])


@given(st.integers(1, 70), st.integers(1, 70))
def test_a_block_is_the_mean_of_its_tokens_and_every_token_is_in_one(height: int, width: int) -> None:
    field = np.random.default_rng([height, width]).normal(size=(height, width))
    means = block_means(field)
    block = -(-max(height, width) // MAP_SIDE)
    assert max(means.shape) <= MAP_SIDE
    assert means.shape == (-(-height // block), -(-width // block))
    for row, column in ((0, 0), (means.shape[0] - 1, means.shape[1] - 1)):
        own = field[row * block : (row + 1) * block, column * block : (column + 1) * block]
        assert means[row, column] == pytest.approx(own.mean())


def test_the_images_of_a_head_are_one_file_untouched(built: tuple[Path, SiteReport], evident_atlas: Path) -> None:
    """Each once, whatever directions show it; a host is asked once, not for each image."""
    reader = Atlas(str(evident_atlas))
    images = reader.probe_images(PROBE_SET, ["image", "class", "thumbnail"]).to_pylist()
    for slug, layer, head in (("drawn-vit", 1, 2), ("drawn-pit", 0, 3)):
        about = heads_of(built[0], slug)
        assert about["images"]
        folder = built[0] / about["folder"]
        shown = rows_of(unpack(folder / f"{layer:05d}.json.gz")["examples"], head)
        data = (folder / "images" / f"{layer:05d}-{head:05d}.images").read_bytes()
        start = 4 + int.from_bytes(data[:4], "little")
        told = json.loads(data[4:start])
        assert len(told) == len({row["image"] for row in shown}) == max(row["slot"] for row in shown) + 1
        webps = []
        for one in told:
            webps.append(data[start : start + one["length"]])
            start += one["length"]
        assert start == len(data)
        for row in shown:
            truth = images[row["image"]]
            assert webps[row["slot"]] == truth["thumbnail"]["bytes"]
            assert (told[row["slot"]]["image"], told[row["slot"]]["class"]) == (truth["image"], truth["class"])
    assert not heads_of(built[0], "drawn-bare")


def test_every_neuron_finds_its_readers(built: tuple[Path, SiteReport], evident_atlas: Path) -> None:
    entry = heads_of(built[0], "drawn-vit")
    assert entry["reads"] == [1, 1]  # nothing reads the last layer
    truth = truth_of(evident_atlas, HEAD_READS, "drawn-vit")
    labels = {(row["layer"], row["head"]): row["label"] for row in truth_of(evident_atlas, HEADS, "drawn-vit")}
    for layer, unit in ((0, 0), (0, 95), (1, 33)):
        shown = rows_of(unpack(built[0] / entry["folder"] / "reads" / f"{layer:05d}-00000.json.gz"), unit)
        own = [row for row in truth if (row["layer"], row["unit"]) == (layer, unit)]
        assert len(own) == 3
        assert [(row["layer"], row["head"], row["level"]) for row in shown] == [
            (row["reader_layer"], row["reader_head"], row["level"]) for row in own
        ]
        assert [row["share"] for row in shown] == [near(row["share"]) for row in own]
        assert [row["label"] for row in shown] == [labels[row["reader_layer"], row["reader_head"]] for row in own]


def test_files_of_readers_leave_no_hole_that_a_page_could_ask_for() -> None:
    units = [3, 2 * READ_PACK + 1, 7]
    assert read_packs([0, 0, 2], units) == (3, 0, 1)
    assert read_packs([], []) == ()
    reads: Columns = {
        "slug": ["m"] * 3,
        "layer": [0, 0, 2],
        "unit": units,
        "rank": [0] * 3,
        "reader_layer": [1, 1, 3],
        "reader_head": [0, 0, 0],
        "share": [0.5, 0.25, 0.125],
        "level": ["direct"] * 3,
    }
    names = sorted(name for name in head_files(bare_rows(reads), {}, set()) if name.startswith("reads/"))
    assert names == [f"reads/{name}.json.gz" for name in ("00000-00000", "00000-00001", "00000-00002", "00002-00000")]


def bare_rows(reads: dict[str, list[Any]]) -> HeadRows:
    """Heads of a model without texts, features and examples."""
    empty: dict[str, Columns] = {table.name: {name: [] for name in table.names} for table in HEAD_TABLES.values()}
    heads: Columns = {"layer": [1, 3], "head": [0, 0], "label": [None, "x"]}
    return HeadRows(heads, empty["head_texts"], empty["head_features"], empty["head_examples"], reads)


def test_a_layer_without_heads_counts_none() -> None:
    assert bare_rows({name: [] for name in HEAD_READS.names}).counts() == [0, 1, 0, 1]


def test_a_features_file_ranks_the_components_of_all_models(
    built: tuple[Path, SiteReport], evident_atlas: Path
) -> None:
    about = manifest_of(built[0])["features"]
    assert [one["name"] for one in about["list"]] == sorted(FEATURES)
    number = sorted(FEATURES).index("colour")
    sets = unpack(built[0] / about["folder"] / f"{number:05d}.json.gz")["sets"]
    assert [told["name"] for told in sets] == ["drawn 00ff00ff00ff00ff"]
    slugs = [entry["slug"] for entry in manifest_of(built[0])["models"]]
    truth = [
        row
        for slug in ("drawn-swin", "drawn-vit")
        for row in truth_of(evident_atlas, HEAD_FEATURES, slug)
        if row["feature"] == "colour"
    ]
    shown = rows_of(sets[0])
    assert len(shown) == len(truth) == 45
    assert [row["score"] for row in shown] == sorted((row["score"] for row in shown), reverse=True)
    wanted = {(row["slug"], row["kind"], row["layer"], row["head"]): row for row in truth}
    for row in shown:
        own = wanted.pop((slugs[row["unit"]], row["kind"], row["layer"], row["head"]))
        for name in ("score", "variance_share", "selectivity", "ablation_effect", "ablation_margin", "ablation_flips"):
            assert row[name] == near(own[name])
        assert row["texts"] == (texts_of(row["layer"], row["head"])[:3] if row["kind"] == "head" else [])
    assert not wanted
    best = about["list"][number]["best"]
    assert [one[4] for one in best] == [row["score"] for row in shown[:3]]
    assert (about["list"][number]["models"], about["list"][number]["heads"]) == (2, 39)


def test_agreement_with_ablation_is_spearmans_over_components(
    built: tuple[Path, SiteReport], evident_atlas: Path
) -> None:
    about = manifest_of(built[0])["features"]
    told = unpack(built[0] / about["folder"] / "00000.json.gz")["sets"][0]
    slugs = [entry["slug"] for entry in manifest_of(built[0])["models"]]
    models = {slugs[one["model"]]: one for one in told["models"]}
    own = [row for row in truth_of(evident_atlas, HEAD_FEATURES, "drawn-vit") if row["feature"] == "colour"]
    for effect in ("ablation_margin", "ablation_flips"):
        rho = spearmanr([row["score"] for row in own], [row[effect] for row in own]).statistic
        assert models["drawn-vit"][effect] == pytest.approx(rho, abs=1e-3)
    assert models["drawn-swin"]["ablation_margin"] is None  # no answer is known there
    assert models["drawn-swin"]["ablation_flips"] is not None
    assert models["drawn-vit"]["head"] == sorted(models["drawn-vit"]["head"], reverse=True)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=4, max_size=30))
def test_rank_correlation_is_scipys(pairs: list[tuple[int, int]]) -> None:
    first, second = ([float(pair[side]) for pair in pairs] for side in (0, 1))
    found = spearman([*first, None, 2.0], [*second, 1.0, None])
    if len(set(first)) == 1 or len(set(second)) == 1:
        assert found is None
    else:
        assert found == pytest.approx(spearmanr(first, second).statistic, abs=1e-9)


def test_three_heads_tell_no_agreement() -> None:
    assert spearman([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]) is None


def features_of(scores: list[float], name: str, own_set: str) -> HeadRows:
    """Rows of a model whose heads have these scores for one feature."""
    count = len(scores)
    order = sorted(range(count), key=lambda at: -scores[at])
    columns: dict[str, list[Any]] = {
        "feature": [name] * count,
        "feature_set": [own_set] * count,
        "kind": ["head"] * count,
        "layer": [0] * count,
        "head": list(range(count)),
        "level": ["direct"] * count,
        "score": scores,
        "rank": [order.index(at) for at in range(count)],
    }
    columns |= {extra: [None] * count for extra in FEATURE_FIGURES}
    empty: dict[str, list[Any]] = {name: [] for name in HEAD_TEXTS.names}
    return HeadRows(EMPTY_ROWS, empty, columns, EMPTY_ROWS, EMPTY_ROWS)


def test_texts_of_two_files_are_never_mixed_and_a_model_lists_its_leading_components() -> None:
    many = [at / 200 for at in range(80)]
    models = [(0, features_of(many, "colour", "zoo 1")), (1, features_of([0.9, 0.1], "colour", "general 2"))]
    models.append((4, features_of([0.3, 0.2], "colour", "general 2")))
    files, said = feature_files(models)
    sets = json.loads(gzip.decompress(files["00000.json.gz"]))["sets"]
    assert [(told["name"], [one["model"] for one in told["models"]]) for told in sets] == [
        ("general 2", [1, 4]),
        ("zoo 1", [0]),
    ]
    assert [(row["unit"], row["score"]) for row in rows_of(sets[0])] == [(1, 0.9), (4, 0.3), (4, 0.2), (1, 0.1)]
    kept = rows_of(sets[1])
    assert [row["score"] for row in kept] == pytest.approx(sorted(many, reverse=True)[:CARRIERS], rel=1e-3)
    assert len(sets[1]["models"][0]["head"]) == 80  # the strip of scores has all
    assert said == [
        {
            "name": "colour",
            "models": 2,
            "heads": 4,
            "ffns": 0,
            "best": [[1, "head", 0, 0, 0.9], [4, "head", 0, 0, 0.3], [4, "head", 0, 1, 0.2]],
        }
    ]


def test_heads_are_found_by_every_text_that_explains_a_hundredth(
    built: tuple[Path, SiteReport], evident_atlas: Path
) -> None:
    about = manifest_of(built[0])["head_search"]
    every = [row for slug in ("drawn-swin", "drawn-vit") for row in truth_of(evident_atlas, HEAD_TEXTS, slug)]
    truth = [row for row in every if row["explained"] >= 0.01]
    assert len(truth) < len(every)
    assert (about["neurons"], about["texts"]) == (len(truth), len({row["text"] for row in truth}))
    word = unpack(built[0] / about["folder"] / "w" / "all.json.gz")["zebras"]
    assert [(text, heads) for _, text, heads in word] == [
        ("two zebras", sum(row["text"] == "two zebras" for row in truth))
    ]
    postings = unpack(built[0] / about["folder"] / "t" / "00000.json.gz")[word[0][0]]
    slugs = [entry["slug"] for entry in manifest_of(built[0])["models"]]
    best = max((row for row in truth if row["text"] == "two zebras"), key=lambda row: row["explained"])
    assert postings[0][3] == pytest.approx(best["explained"], rel=1e-2)
    assert {(slugs[model], layer, head) for model, layer, head, *_ in postings} == {
        (row["slug"], row["layer"], row["head"]) for row in truth if row["text"] == "two zebras"
    }


def test_an_atlas_without_heads_has_no_files_of_them(small_atlas: Path, tmp_path: Path) -> None:
    report = build_site(small_atlas, tmp_path / "site")
    manifest = manifest_of(tmp_path / "site")
    assert (manifest["features"], manifest["head_search"], report.counts["heads"]) == (None, None, 0)
    assert all(entry["heads"] is None for entry in manifest["models"])
    assert not list((tmp_path / "site").rglob("*heads-*"))
    assert not (tmp_path / "site" / "f").exists()


def test_a_site_may_have_heads_alone(alone_atlas: Path, tmp_path: Path) -> None:
    report = build_site(alone_atlas, tmp_path / "site")
    assert (report.counts["neurons"], report.counts["heads"]) == (0, 3)
    assert "3 attention heads" in str(report)
    assert heads_of(tmp_path / "site", "drawn-alone")["layers"] == [1, 2]
    size = budget.estimate(survey(Atlas(str(alone_atlas))), "sprite")
    assert report.files <= size.files <= report.files + 10


@pytest.mark.parametrize("lacking", [HEAD_TEXTS, HEAD_FEATURES, HEAD_EXAMPLES, HEAD_READS])
def test_any_table_but_heads_may_be_missing(lacking: Any, alone_atlas: Path, tmp_path: Path) -> None:
    atlas = tmp_path / "atlas"
    shutil.copytree(alone_atlas, atlas)
    shutil.rmtree(atlas / lacking.name)
    report = build_site(atlas, tmp_path / "site")
    size = budget.estimate(survey(Atlas(str(atlas))), "sprite")
    assert report.counts["heads"] == 3
    assert report.files <= size.files <= report.files + 10
    pack = unpack(tmp_path / "site" / heads_of(tmp_path / "site", "drawn-alone")["folder"] / "00001.json.gz")
    empty = {"head_texts": "texts", "head_features": "features", "head_examples": "examples", "head_reads": "neurons"}
    assert rows_of(pack[empty[lacking.name]]) == []


def test_a_column_that_came_later_has_no_values_in_an_older_atlas(alone_atlas: Path, tmp_path: Path) -> None:
    atlas = tmp_path / "atlas"
    shutil.copytree(alone_atlas, atlas)
    shard = next((atlas / HEAD_FEATURES.name).rglob("*.parquet"))
    rows = pq.read_table(shard)
    pq.write_table(rows.drop_columns(["ablation_margin"]), shard)
    found = Atlas(str(atlas)).rows(HEAD_FEATURES, "drawn-alone")
    assert found.column_names == list(HEAD_FEATURES.names)
    assert found["ablation_margin"].null_count == len(rows) > 0
    assert found["score"].to_pylist() == rows["score"].to_pylist()
    assert build_site(atlas, tmp_path / "site").counts["heads"] == 3


def test_without_the_table_of_heads_there_are_none(tmp_path: Path) -> None:
    models = (Drawn("one", (8,), stages=("visualize", "heads"), probe_set=PROBE_SET, heads=(2,)),)
    atlas = Path(draw_atlas(tmp_path / "atlas", models))
    shutil.rmtree(atlas / "heads")
    assert build_site(atlas, tmp_path / "site").counts["heads"] == 0
    assert heads_of(tmp_path / "site", "one") is None


def test_a_damaged_table_is_named(alone_atlas: Path, tmp_path: Path) -> None:
    atlas = tmp_path / "atlas"
    shutil.copytree(alone_atlas, atlas)
    shard = next((atlas / "head_texts").rglob("*.parquet"))
    shard.write_bytes(shard.read_bytes()[:-40])
    with pytest.raises(ShardCorrupt, match="head_texts/drawn-alone"):
        build_site(atlas, tmp_path / "site")


def test_new_heads_leave_pictures_alone_and_old_ones_go(tmp_path: Path) -> None:
    models = (Drawn("one", (24,), stages=("visualize", "heads"), probe_set=PROBE_SET, heads=(2,)),)
    atlas = Path(draw_atlas(tmp_path / "atlas", models))
    build_site(atlas, tmp_path / "site")
    before = heads_of(tmp_path / "site", "one")["folder"]
    again = build_site(atlas, tmp_path / "site")
    assert (heads_of(tmp_path / "site", "one")["folder"], again.counts["layers_reused"]) == (before, 1)
    shutil.rmtree(atlas / "head_texts")
    report = build_site(atlas, tmp_path / "site")
    after = heads_of(tmp_path / "site", "one")["folder"]
    assert report.counts["layers_reused"] == 1
    assert after != before
    assert (tmp_path / "site" / after).exists()
    assert not (tmp_path / "site" / before).exists()


def test_two_builds_of_heads_are_the_same_bytes(alone_atlas: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        build_site(alone_atlas, tmp_path / name)
    for path in (tmp_path / "a" / "d").rglob("*.json.gz"):
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()
