"""A dataset in, a static site out.

The size is known before anything is written. A layer's folder is named by its content, so a second build
writes only what changed; index.html, the one file that ever changes in place, is replaced last, and what it
no longer names is then removed. Whoever opens the site while it is rebuilt meets the old or the new, whole.
"""

from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atlas_schema.errors import BadConfig, ForeignAtlas, NothingThere, nearest
from atlas_schema.read import Atlas
from atlas_schema.tables import NEURONS
from site_builder import app, overview
from site_builder.budget import HOSTS, Host, Size, check, estimate, megabytes
from site_builder.evidence import write_evidence
from site_builder.folders import content_name, write_folder
from site_builder.head_pages import write_heads
from site_builder.layers import FORMAT, LayerSummary, build_layer
from site_builder.packs import PACK
from site_builder.sprites import BUNDLE, THUMB
from site_builder.survey import LayerSource, survey

MARK = ".neuron-atlas-site"  # says that a folder is a site of ours, which may be built over
OURS = ("d/*", "d/*/*", "f/*", "p/*", "r/*", "s/*")
MODES = ("sprite", "range", "files")


@dataclass(frozen=True)
class SiteReport:
    """What was built."""

    out: str
    target: str
    images: str
    models: int
    layers: int
    layers_reused: int
    neurons: int
    heads: int
    files: int
    bytes: int
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [
            f"{self.out}: {self.neurons:,} neurons in {self.layers} layers of {self.models} models"
            f" ({self.layers_reused} layers unchanged), {self.heads:,} attention heads, {self.files:,} files,"
            f" {megabytes(self.bytes)}",
            f"large pictures: {self.images}; built for {self.target}",
        ]
        return "\n".join(lines + self.notes)


def build_site(
    atlas_url: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    target: str = "local",
    images: str = "auto",
    dataset_url: str | None = None,
    title: str = "Neuron atlas",
) -> SiteReport:
    """Build the site of the atlas at `atlas_url` into the folder `out`.

    target: the host it is for (local, github-pages, hf-space, s3), whose limits are checked first.
    images: where large pictures come from. `sprite`: bundles of a few WebP files in the site, plain requests
    only; `files`: one file each; `range`: the dataset's own shards at `dataset_url`, by Range requests;
    `auto`: range where the host and a dataset URL allow it, else sprite.
    dataset_url: where the dataset is published (https://..., s3 over https, or hf://datasets/ORG/NAME).

    Raises BadConfig, NothingThere (no atlas, or no neurons yet), ForeignAtlas (`out` holds something else),
    SiteTooLarge.
    """
    host, mode = _settings(target, images, dataset_url)
    atlas, folder = Atlas(os.fspath(atlas_url)), Path(out)
    held = survey(atlas)
    if not held.layers and not held.heads:
        raise NothingThere(f"{atlas_url}: no neurons or heads to show yet; run `neuron-atlas run` into it first")
    check(host, estimate(held, mode), mode)
    _claim(folder)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        built = list(pool.map(lambda source: _write_layer(atlas, source, folder, mode), held.layers))
        evidence = write_evidence(atlas, folder, held, pool)
        heads = write_heads(atlas, folder, held, evidence.labels, pool)
    layers = {(source.slug, source.layer): made[:2] for source, made in zip(held.layers, built, strict=True)}
    written = overview.write(atlas, folder, held, layers, evidence, heads)
    manifest = {
        **written.manifest,
        "title": title,
        "images": {"mode": mode, "base": app.browser_url(dataset_url) if mode == "range" else ""},
        "dataset": dataset_url or "",
        "frame": "https://huggingface.co" if target == "hf-space" else "",
    }
    kept = app.write(folder, manifest, dataset_url if mode == "range" else None)
    if target == "hf-space":
        _replace(folder / "README.md", app.space_card(title).encode())
    shown = {f"d/{name}" for name, _ in layers.values()} | evidence.folders | heads.folders
    _prune(folder, {*kept, *written.files, *shown})
    found = measure(folder)
    check(host, found, mode)
    return SiteReport(
        out=str(folder),
        target=target,
        images=mode,
        models=len(held.models),
        layers=len(held.layers),
        layers_reused=sum(made[2] for made in built),
        neurons=sum(len(source.units) for source in held.layers),
        heads=sum(source.rows["heads"] for source in held.heads),
        files=found.files,
        bytes=found.bytes,
    )


def _settings(target: str, images: str, dataset_url: str | None) -> tuple[Host, str]:
    if target not in HOSTS:
        raise BadConfig(f"--target {target}: no such host; expected one of {', '.join(HOSTS)}{_hint(target, HOSTS)}")
    if images not in ("auto", *MODES):
        modes = ("auto", *MODES)
        raise BadConfig(f"--images {images}: expected one of {', '.join(modes)}{_hint(images, modes)}")
    host = HOSTS[target]
    if images == "range" and dataset_url is None:
        raise BadConfig(
            "--images range reads pictures from the published dataset: give its address with --dataset-url "
            "(https://... or hf://datasets/ORG/NAME), or use --images sprite"
        )
    if images == "range" and target == "github-pages":
        raise BadConfig("--images range: GitHub Pages compresses what it serves in parts and breaks it; use sprite")
    if images == "auto":
        images = "range" if host.serves_ranges and dataset_url is not None else "sprite"
    return host, images


def _hint(name: str, known: Any) -> str:
    close = nearest(name, known)
    return f" (nearest: {close[0]})" if close else ""


def _write_layer(atlas: Atlas, layer: LayerSource, folder: Path, mode: str) -> tuple[str, LayerSummary, bool]:
    """The layer's folder below d/, its summary, and whether it was there already."""
    settings = f"{FORMAT} {mode} {PACK} {BUNDLE} {THUMB}".encode()
    name = content_name(f"{layer.slug}/{layer.layer:05d}", atlas.store.read(layer.shard), settings)

    def files() -> dict[str, bytes]:
        rows = atlas.neurons(layer.slug, layer.layer, NEURONS.names)
        if rows is None:
            raise NothingThere(f"{layer.shard}: removed while the site was built; build it again")
        places = atlas.picture_locations(layer.slug, layer.layer) if mode == "range" else ()
        made, summary = build_layer(rows, layer.shard, mode, places)
        return {**made, "summary.json": json.dumps(summary.as_json()).encode()}

    reused = write_folder(folder / "d", name, files)
    said = (folder / "d" / name / "summary.json").read_text()
    return name, LayerSummary(**json.loads(said)), reused


def _claim(folder: Path) -> None:
    """Take `folder` as a site's; refuse one that holds anything else."""
    if folder.exists() and not folder.is_dir():
        raise ForeignAtlas(f"{folder}: a file is in the way; name a folder for the site")
    if folder.exists() and any(folder.iterdir()) and not (folder / MARK).exists():
        raise ForeignAtlas(
            f"{folder}: is not empty and holds no site of this project; nothing was touched. "
            "Name a new folder, or empty this one"
        )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).write_text("Built by `neuron-atlas site build`; the next build replaces what is here.\n")


def _replace(path: Path, data: bytes) -> None:
    unfinished = path.with_name(f".{path.name}.tmp")
    unfinished.write_bytes(data)
    os.replace(unfinished, path)


def _prune(folder: Path, kept: set[str]) -> None:
    """Remove what earlier builds left in folders of ours; other files in the site's folder are not."""
    for old in folder.glob("app-*"):
        if old.name not in kept:
            shutil.rmtree(old)
    for path in [old for pattern in OURS for old in folder.glob(pattern)]:
        name = path.relative_to(folder).as_posix()
        holds_kept = any(other == name or other.startswith(f"{name}/") for other in kept)
        if not holds_kept and path.exists():
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def measure(folder: Path) -> Size:
    """Files, bytes, and entries of the fullest folder."""
    files = size = largest = 0
    for root, folders, names in os.walk(folder):
        files += len(names)
        size += sum(os.path.getsize(os.path.join(root, name)) for name in names)
        largest = max(largest, len(names) + len(folders))
    return Size(files, size, largest)
