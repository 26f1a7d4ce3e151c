"""Pages for those who share a link: a small page that leads to the app's, with a picture for the preview.

What shows a link before it is opened (a chat, a feed, a search engine) reads no script and nothing behind a `#`. So
each address of the app that is worth sharing gets a page of its own below c/, with its title, a sentence and a picture:

    c/{slug}/about/                  a model: one picture of each of eight layers
    c/{slug}/mlp/3/                  a layer: its best eight pictures
    c/{slug}/mlp/3/41.html           a neuron: its picture and the nine images that excite it most
    c/{slug}/mlp/3/pack-0.html#41    where a page a neuron would be too many: units 0 to 63, with the pictures of 32
    c/{slug}/head/3-1.html           a head: the nine images furthest along its first axis
    c/_rosetta/7.html                a Rosetta cluster, of the first thousand: the pictures of its neurons

These addresses never change (but for the numbers of clusters, which hold until the atlas grows), so nothing in them is
named by content; a layer is written again when its mark differs.
Previews want whole addresses, so all this is made only where the site's own is known; then there is a sitemap.xml, too.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import escape

import pyarrow.compute as pc
from jinja2 import Environment, PackageLoader, select_autoescape
from PIL import Image, ImageOps

from atlas_schema.errors import BadConfig
from atlas_schema.head_tables import HEAD_EXAMPLES, HEADS
from atlas_schema.shards import shard_path
from atlas_schema.tables import NEURON_EXAMPLES
from site_builder.clusters import LEAST_MODELS, shared_label
from site_builder.folders import content_name, replace
from site_builder.outline import Layer, Outline
from site_builder.packs import PACK, load, packs_of
from site_builder.reading import content_of, count_rows, layer_footer
from site_builder.section import Size

#: Raise it when these files change for the same dataset.
FORMAT = "1"
FOLDER = "c"
#: Below it the pages of clusters (no slug begins so), and how many of them have one: the first.
CLUSTERS, MOST_CLUSTERS = "_rosetta", 1000
#: Which neurons have a page of their own, the finest first: each, those of a pack together, none but their layer.
LEVELS = ("neurons", "packs", "layers")
#: Width and height of a preview's picture in pixels, and its JPEG quality.
WIDTH, HEIGHT, QUALITY = 600, 315, 74
#: Bytes of a page and its picture, from above, and of its line in the sitemap. Measured.
PAGE_BYTES, LINE_BYTES = 40_000, 120
#: What all of them may take: files, where the host allows any number, or a quarter of what it allows; and bytes.
MOST_FILES, MOST_BYTES = 50_000, 400_000_000
_URL = re.compile(r"https?://[\w.:\[\]-]+(/[\w./~%@+-]*)?")
_PAGE = Environment(loader=PackageLoader("site_builder"), autoescape=select_autoescape())


@dataclass(frozen=True)
class Cards:
    """The previews of a site: its own address, ending with a slash, and which neurons have one."""

    url: str
    level: str
    clusters: int = 0  # Rosetta clusters that may have one, at most


@dataclass(frozen=True)
class Shared:
    """One page to share: where it lies below c/, the app's page, what is said of it, the pictures of its preview."""

    path: str  # without .html
    leads: str  # behind #/
    title: str
    text: str
    first: Image.Image | None  # stands large, the others beside it
    others: Sequence[Image.Image]
    neurons: str = ""  # what the unit behind # in its own address is added to, to lead to that neuron


def checked_url(url: str) -> str:
    """The site's own address, ending with a slash. Raises BadConfig."""
    if not _URL.fullmatch(url):
        raise BadConfig(f"--url {url!r}: expected the address that the site will have, such as https://HOST/PATH/")
    return url.rstrip("/") + "/"


def counts(outline: Outline) -> dict[str, int]:
    """Pages of each level, all that are coarser among them."""
    heads = sum(count_rows(outline.atlas, HEADS, slug) for slug in outline.slugs)
    coarse = len(outline.models) + len(outline.layers) + heads
    packs = sum(len(packs_of(layer.units)) for layer in outline.layers)
    neurons = sum(len(layer.units) for layer in outline.layers)
    return {"neurons": coarse + neurons, "packs": coarse + packs, "layers": coarse}


def _most_clusters(outline: Outline) -> int:
    """Clusters that have a page, from above: they are known only once counterparts are read."""
    neurons = sum(len(layer.units) for layer in outline.layers)
    return min(MOST_CLUSTERS, neurons // LEAST_MODELS) if len(outline.models) >= LEAST_MODELS else 0


def size(outline: Outline, level: str, clusters: int = 0) -> Size:
    """Files and bytes of all pages of a level, from above, with the sitemap and the script."""
    pages = counts(outline)[level] + clusters
    widest = max((len(layer.units) for layer in outline.layers), default=0)
    inner = {"neurons": widest, "packs": -(-widest // PACK), "layers": 0}[level]
    heads = counts(outline)["layers"] - len(outline.models) - len(outline.layers)
    marks = len(outline.layers) + 2 * len(outline.models) + 1
    return Size(
        2 * pages + marks + 2, pages * (PAGE_BYTES + LINE_BYTES) + 2000, max(2 * inner, 2 * heads, 2 * clusters) + 3
    )


def choose(outline: Outline, url: str, fits: Callable[[Size], bool], host_files: int | None) -> Cards | None:
    """The finest level that the host holds beside the rest and that stays within its share; None where none does."""
    most = MOST_FILES if host_files is None else host_files // 4
    for level in LEVELS:
        found = size(outline, level)
        if found.files <= most and found.bytes <= MOST_BYTES and fits(found):
            left = min((most - found.files) // 2, (MOST_BYTES - found.bytes) // PAGE_BYTES)
            clusters = min(_most_clusters(outline), left)
            return Cards(url, level, clusters if fits(size(outline, level, clusters)) else 0)
    return None


def write(folder: Path, outline: Outline, cards: Cards, manifest: Mapping[str, Any], pool: Executor) -> int:
    """Write every page below c/, and the sitemap; what an earlier build left there and has no page any longer goes.

    manifest: of its models the layers name the folders that hold their summaries; the folder of its clusters has them.
    Returns how many clusters have a page.
    """
    home, probes, models = folder / FOLDER, _Probes(outline), manifest["models"]
    best = {(one["slug"], at): _best(folder, entry) for one in models for at, entry in enumerate(one["layers"])}
    jobs: list[Job] = [_layer_job(outline, layer, cards, best[layer.key], probes) for layer in outline.layers]
    jobs += [_head_job(outline, slug, probes) for slug in outline.slugs if count_rows(outline.atlas, HEADS, slug)]
    jobs += [_model_job(outline, slug, best) for slug in outline.slugs]
    about = manifest.get("clusters")
    shown = min(cards.clusters, about["clusters"]) if about else 0
    if about and shown:
        jobs.append(_cluster_job(outline, folder / about["folder"], shown))
    paths = [path for found in pool.map(lambda job: _write_job(home, job, cards), jobs) for path in found]
    replace(home / "lead.js", _LEAD.encode())
    _prune(home, {job.name for job in jobs})
    replace(folder / "sitemap.xml", sitemap(cards, paths))
    return shown


@dataclass(frozen=True)
class Job:
    """The pages of one folder below c/: what they are made from, and how."""

    name: str
    inputs: tuple[bytes, ...]
    pages: Callable[[], Iterator[Shared]]


def _best(folder: Path, entry: Mapping[str, Any]) -> list[int]:
    """Units of a layer whose pictures hold best, best first."""
    if entry.get("folder") is None:
        return []
    best: list[int] = json.loads((folder / entry["folder"] / "summary.json").read_text())["best"]
    return best


def sitemap(cards: Cards, paths: Sequence[str]) -> bytes:
    """The addresses of the site and of all its pages to share; at most 50,000, as the format has it."""
    places = [cards.url, *(f"{cards.url}{FOLDER}/{quote(public(path))}" for path in paths)][:50_000]
    lines = "".join(f"<url><loc>{escape(place)}</loc></url>\n" for place in places)
    head = '<?xml version="1.0" encoding="UTF-8"?>\n<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n'
    return f"{head}{lines}</urlset>\n".encode()


def public(path: str) -> str:
    """A page's address below c/: a folder's own page has none but the folder."""
    return path.removesuffix("index") if path.endswith("index") else f"{path}.html"


#: What leads from a page of a pack to one of its neurons: the only script of these pages.
_LEAD = """// Leads to the app's page; what follows # here is the neuron of this pack.
const link = document.querySelector("a[data-neurons]");
const unit = link.dataset.neurons !== "" && /^#\\d+$/.test(location.hash) ? location.hash.slice(1) : "";
location.replace(unit === "" ? link.href : new URL(`${link.dataset.neurons}/${unit}`, location.href));
"""


class _Probes:
    """Thumbnails of probe images, read a set at a time and kept while one build asks for them."""

    def __init__(self, outline: Outline) -> None:
        self.outline = outline
        self.sets: dict[str, list[bytes | None]] = {}

    def pictures(self, rows: Sequence[tuple[str, int]]) -> list[Image.Image]:
        """Of (probe set, index), as far as the atlas has them."""
        found = []
        for name, index in rows:
            if name not in self.sets:
                known = name in self.outline.probe_sets
                table = self.outline.atlas.probe_images(name, ["index", "thumbnail"]).to_pylist() if known else []
                self.sets[name] = [(row["thumbnail"] or {}).get("bytes") for row in table]
            own = self.sets[name]
            data = own[index] if index < len(own) else None
            if data:
                found.append(_opened(data))
        return found


def _opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def _layer_job(outline: Outline, layer: Layer, cards: Cards, best: Sequence[int], probes: _Probes) -> Job:
    path, _ = layer_footer(outline.atlas, NEURON_EXAMPLES, layer.slug, layer.layer, layer.layers)
    inputs = [content_of(outline.atlas, one) for one in (layer.shard, path) if one is not None]
    inputs.append(",".join(sorted(outline.probe_sets)).encode())
    name = f"{layer.slug}/mlp/{layer.layer}"
    return Job(name, tuple(inputs), lambda: _of_layer(outline, layer, cards, best, probes))


def _of_layer(outline: Outline, layer: Layer, cards: Cards, best: Sequence[int], probes: _Probes) -> Iterator[Shared]:
    slug, number = layer.key
    rows = outline.atlas.neurons(slug, number, ["unit", "image", "label", "verdict"])
    found = {row["unit"]: row for row in (rows.to_pylist() if rows is not None else ())}
    picture = {unit: row["image"]["bytes"] for unit, row in found.items() if (row["image"] or {}).get("bytes")}
    where = f"layer {number} of {slug}"
    chosen = [_opened(picture[unit]) for unit in best[:8] if unit in picture]
    text = f"{len(layer.units):,} neurons: an image optimized to activate each, and the numbers to judge it by."
    yield Shared(f"{slug}/mlp/{number}/index", f"m/{slug}/{number}", f"Layer {number} of {slug}", text, None, chosen)
    if cards.level == "packs":
        for pack in packs_of(layer.units):
            own = [unit for unit in layer.units if unit // PACK == pack]
            shown = [_opened(picture[unit]) for unit in own if unit in picture][:32]
            title = f"Units {own[0]} to {own[-1]}, {where}"
            text, lead, neurons = "What excites each of them.", f"m/{slug}/{number}", f"n/{slug}/{number}"
            yield Shared(f"{slug}/mlp/{number}/pack-{pack}", lead, title, text, None, shown, neurons)
    if cards.level == "neurons":
        images = _strongest(outline, layer)
        for unit, row in found.items():
            label = row["label"]
            title = f"“{label}”, unit {unit}, {where}" if label else f"Unit {unit}, {where}"
            verdict = f" Verdict on the picture: {row['verdict']}." if row["verdict"] else ""
            text = f"An image optimized to activate the neuron, beside the real images that excite it most.{verdict}"
            others = probes.pictures(images.get(unit, []))
            lead = f"n/{slug}/{number}/{unit}"
            first = _opened(picture[unit]) if unit in picture else None  # one at a time: a layer opened is 460 MB
            yield Shared(f"{slug}/mlp/{number}/{unit}", lead, title, text, first, others)


def _strongest(outline: Outline, layer: Layer) -> dict[int, list[tuple[str, int]]]:
    """(probe set, index) of the nine images that excite each unit most, the strongest first."""
    columns = ["unit", "kind", "activation", "probe_set", "image_index"]
    rows = outline.atlas.examples(layer.slug, layer.layer, columns)
    found: dict[int, list[tuple[float, str, int]]] = {}
    for row in rows.to_pylist() if rows is not None else ():
        if row["kind"] == "top":
            own = found.setdefault(row["unit"], [])
            own.append((-row["activation"], row["probe_set"], row["image_index"]))
    return {unit: [(name, index) for _, name, index in sorted(own)[:9]] for unit, own in found.items()}


def _head_job(outline: Outline, slug: str, probes: _Probes) -> Job:
    paths = [shard_path(table, slug) for table in (HEADS, HEAD_EXAMPLES)]
    there = [content_of(outline.atlas, path) for path in paths if outline.atlas.store.exists(path)]
    return Job(f"{slug}/head", tuple(there), lambda: _of_heads(outline, slug, probes))


def _of_heads(outline: Outline, slug: str, probes: _Probes) -> Iterator[Shared]:
    rows = outline.atlas.rows(HEAD_EXAMPLES, slug, ["layer", "head", "direction", "probe_set", "image_index"])
    images: dict[tuple[int, int], list[tuple[str, int]]] = {}
    for row in rows.filter(pc.equal(rows["direction"], "axis 0 high")).to_pylist():
        images.setdefault((row["layer"], row["head"]), []).append((row["probe_set"], row["image_index"]))
    for row in outline.atlas.rows(HEADS, slug, ["layer", "head", "label"]).to_pylist():
        layer, head, label = row["layer"], row["head"], row["label"]
        where = f"attention layer {layer} of {slug}"
        title = f"“{label}”, head {head}, {where}" if label else f"Head {head}, {where}"
        text = "What the attention head adds to the final representation, and the images furthest along its first axis."
        others = probes.pictures(images.get((layer, head), [])[:9])
        yield Shared(f"{slug}/head/{layer}-{head}", f"h/{slug}/{layer}/{head}", title, text, None, others)


def _model_job(outline: Outline, slug: str, best: Mapping[tuple[str, int], Sequence[int]]) -> Job:
    firsts = [(layer, units[0]) for (own, layer), units in sorted(best.items()) if own == slug and units]
    chosen = [firsts[i * len(firsts) // min(8, len(firsts))] for i in range(min(8, len(firsts)))]
    shards = [content_of(outline.atlas, layer.shard) for layer in outline.layers if layer.slug == slug]

    def pages() -> Iterator[Shared]:
        shown = [_opened(outline.atlas.picture(f"{slug}/mlp/{layer}/{unit}")) for layer, unit in chosen]
        text = "What excites its FFN neurons and what its attention heads add, with the numbers to judge it by."
        yield Shared(f"{slug}/about/index", f"m/{slug}", slug, text, None, shown)

    return Job(f"{slug}/about", (json.dumps(chosen).encode(), *shards), pages)


def _cluster_job(outline: Outline, folder: Path, count: int) -> Job:
    shards = [content_of(outline.atlas, layer.shard) for layer in outline.layers]
    about = f"{count} {folder.name}".encode()
    return Job(CLUSTERS, (about, *shards), lambda: islice(_of_clusters(outline, folder), count))


def _of_clusters(outline: Outline, folder: Path) -> Iterator[Shared]:
    packs = (load(path) for path in sorted(folder.glob("*.json.gz")))
    for number, cluster in enumerate(one for pack in packs for one in pack):
        addresses = [f"{slug}/mlp/{layer}/{unit}" for slug, layer, unit, _ in cluster["members"]]
        label = shared_label([member[3] for member in cluster["members"]])
        title = f"Rosetta cluster {number}: “{label}”" if label else f"Rosetta cluster {number}"
        text = f"Neurons of {len(addresses)} models that fire on the same places of the same images: "
        text += f"{', '.join(addresses)}."
        shown = [_opened(picture) for picture in map(outline.atlas.picture_or_none, addresses) if picture]
        yield Shared(f"{CLUSTERS}/{number}", f"r/{number}", title, text, None, shown)


def _write_job(home: Path, job: Job, cards: Cards) -> list[str]:
    """Write the pages of a folder, unless they are there already; their paths. The mark is what they were made from."""
    mark = content_name("made", FORMAT.encode(), cards.url.encode(), cards.level.encode(), *job.inputs)
    final = home / job.name
    known = final / ".made"
    if known.exists():
        told = json.loads(known.read_text())
        if told["mark"] == mark:
            paths: list[str] = told["paths"]
            return paths
    unfinished = final.with_name(f".{final.name}.tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    written = []
    for shared in job.pages():
        _write_page(unfinished, shared, cards)
        written.append(shared.path)
    (unfinished / ".made").write_text(json.dumps({"mark": mark, "paths": written}))
    shutil.rmtree(final, ignore_errors=True)
    os.rename(unfinished, final)
    return written


def _write_page(folder: Path, shared: Shared, cards: Cards) -> None:
    name = shared.path.rpartition("/")[2]
    picture = preview(shared.first, shared.others)
    if picture:
        (folder / f"{name}.jpg").write_bytes(picture)
    up = "../" * (shared.path.count("/") + 1)
    page = _PAGE.get_template("card.html").render(
        title=shared.title,
        text=shared.text,
        own=f"{cards.url}{FOLDER}/{quote(public(shared.path))}",
        picture=f"{cards.url}{FOLDER}/{quote(shared.path)}.jpg" if picture else "",
        width=WIDTH,
        height=HEIGHT,
        script=f"{up}{FOLDER}/lead.js",
        leads=f"{up}#/{shared.leads}",
        neurons=f"{up}#/{shared.neurons}" if shared.neurons else "",
    )
    (folder / f"{name}.html").write_text(page, encoding="utf-8")


def preview(first: Image.Image | None, others: Sequence[Image.Image]) -> bytes:
    """JPEG of a picture with others in a grid beside it, or of the others alone; nothing where there is none."""
    if first is None and not others:
        return b""
    canvas = Image.new("RGB", (WIDTH, HEIGHT), (20, 21, 23))
    left = 0
    if first is not None:
        _paste(canvas, first, 0, 0, HEIGHT, HEIGHT)
        left = HEIGHT
    wide = WIDTH - left
    rows = max(1, round((len(others) * HEIGHT / wide) ** 0.5))
    columns = -(-len(others) // rows)
    for place, picture in enumerate(others):
        x, y = (place % columns * wide // columns, place // columns * HEIGHT // rows)
        _paste(canvas, picture, left + x, y, wide // columns - 2, HEIGHT // rows - 2)
    buffer = io.BytesIO()
    canvas.save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return buffer.getvalue()


def _paste(canvas: Image.Image, picture: Image.Image, left: int, top: int, width: int, height: int) -> None:
    canvas.paste(ImageOps.fit(picture, (width, height), Image.Resampling.LANCZOS), (left, top))


def _prune(home: Path, kept: set[str]) -> None:
    """Remove folders of models, layers and heads that have no page any longer, and what a killed build left."""
    for slug in (path for path in home.iterdir() if path.is_dir()):
        for own in [slug / "about", slug / "head", *(slug / "mlp").glob("*")]:
            if own.exists() and own.relative_to(home).as_posix() not in kept:
                shutil.rmtree(own)
        if slug.name not in kept and not any(name.startswith(f"{slug.name}/") for name in kept):
            shutil.rmtree(slug)
