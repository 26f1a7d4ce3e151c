"""A dataset in, a static site out.

The size is known before anything is written. A layer's folder is named by its content, so a second build
writes only what changed; index.html, the one file that ever changes in place, is replaced last, and what it
no longer names is then removed. Whoever opens the site while it is rebuilt meets the old or the new, whole.
While an atlas grows (site_builder/watch.py), what the build before names stays one build longer, for open pages.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from atlas_schema.errors import BadConfig, ForeignAtlas, NothingThere, nearest
from atlas_schema.read import Atlas
from site_builder import app, cards, in_browser, overview
from site_builder.budget import HOSTS, Host, check, estimate, fits
from site_builder.folders import replace
from site_builder.in_browser import NOTHING, Browsing
from site_builder.section import Section, Size, Work, Written
from site_builder.sections import ON_REQUEST, SECTIONS
from site_builder.survey import Survey, survey

MARK = ".neuron-atlas-site"  # says that a folder is a site of ours, which may be built over
REVISION = "revision.txt"  # of a site that grew while it was looked at
MODES = ("sprite", "range", "files")
LAYER_MEMORY = 420 << 20  # bytes that a layer takes while it is made, about: 3,072 neurons at 224 pixels, measured
MOST_WORKERS = 16


@dataclass(frozen=True)
class SiteReport:
    """What was built."""

    out: str
    target: str
    images: str
    models: int
    counts: dict[str, int]  # of each section, by name: neurons, layers, layers_reused, heads
    files: int
    bytes: int
    said: list[str] = field(default_factory=list)  # a phrase a section
    paths: frozenset[str] = field(default=frozenset(), repr=False)  # files and folders that its page names

    def __str__(self) -> str:
        size = Size(self.files, self.bytes)
        return f"{self.out}: {', '.join(self.said)}, {size}\nlarge pictures: {self.images}; built for {self.target}"


def build_site(
    atlas_url: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    target: str = "local",
    images: str = "auto",
    dataset_url: str | None = None,
    title: str = "Neuron atlas",
    url: str | None = None,
    workers: int | None = None,
    growing: bool = False,
    keep: frozenset[str] = frozenset(),
    browsing: Browsing = NOTHING,
    sections: Sequence[Section[Any]] = SECTIONS,
) -> SiteReport:
    """Build the site of the atlas at `atlas_url` into the folder `out`.

    target: the host it is for (local, github-pages, hf-space, s3), whose limits are checked first.
    images: where large pictures come from. `sprite`: bundles of a few WebP files in the site, plain requests
    only; `files`: one file each; `range`: the dataset's own shards at `dataset_url`, by Range requests;
    `auto`: range where the host and a dataset URL allow it, else sprite.
    dataset_url: where the dataset is published (https://..., s3 over https, or hf://datasets/ORG/NAME).
    url: the address that the site will have: then links have previews (site_builder/cards.py), and there is a sitemap.
    workers: layers that are made at a time, each in up to `LAYER_MEMORY` bytes; default: as many as cores and free
    memory allow. growing: the atlas is not complete, and a newer build will follow: open pages look out for it.
    keep: what of an earlier build stays (`paths` of its report). browsing: models that browsers can run on a visitor's
    image. sections: what the site shows.

    Raises BadConfig, NothingThere (no atlas, or nothing to show yet), ForeignAtlas (`out` holds something else),
    SiteTooLarge.
    """
    host, mode, held, _, shared = _fitting(atlas_url, target, images, dataset_url, url, sections, browsing)
    folder = Path(out)
    claim(folder)
    made = _write_sections(held, folder, mode, workers or _workers())
    told = overview.write(folder, held.outline, made)
    paths = told.paths | {path for _, written in made for path in written.paths}
    cluster_cards = _write_cards(folder, held, shared, told.manifest, workers or _workers())
    more, entries, runtime = in_browser.write(folder, held.outline, browsing)
    paths |= more
    models = [entry | {"browser": entries.get(entry["slug"])} for entry in told.manifest["models"]]
    manifest = told.manifest | {"cards": shared and shared.level, "cluster_cards": cluster_cards}
    manifest |= {"revision": _revision(paths)}
    manifest |= {"models": models, "runtime": runtime}
    manifest |= {"growing": True} if growing else {}
    paths |= _write_page(folder, manifest, title, target, mode, dataset_url)
    _write_revision(folder, manifest["revision"], growing)
    patterns = {one for section in (*sections, *ON_REQUEST) for one in section.folders}
    _prune(folder, paths | keep, ("app-*", *overview.FOLDERS, *in_browser.FOLDERS, *sorted(patterns)))
    found = measure(folder)
    if not keep:
        check(host, found, mode)
    return SiteReport(
        out=str(folder),
        target=target,
        images=mode,
        models=len(held.outline.models),
        counts={**held.counts, **{name: count for _, written in made for name, count in written.counts.items()}},
        files=found.files,
        bytes=found.bytes,
        said=[*(written.said for _, written in made if written.said), *_said_of(shared, url, browsing)],
        paths=frozenset(paths),
    )


def _write_cards(
    folder: Path, held: Survey, shared: cards.Cards | None, manifest: Mapping[str, Any], workers: int
) -> int:
    """Write the pages that links with previews lead to; without any, what an earlier build left of them goes. Returns
    how many clusters have one.
    """
    if shared is None:
        shutil.rmtree(folder / cards.FOLDER, ignore_errors=True)
        (folder / "sitemap.xml").unlink(missing_ok=True)
        return 0
    with ThreadPoolExecutor(workers) as pool:
        return cards.write(folder, held.outline, shared, manifest, pool)


def _said_of(shared: cards.Cards | None, url: str | None, browsing: Browsing) -> list[str]:
    count = len(browsing.models)
    said = [f"{count} model{'s' if count > 1 else ''} for browsers to run"] if count else []
    if url is not None:
        previews = f"link previews by {shared.level}" if shared else "no link previews: they do not fit the host"
        said.append(previews)
    return said


def _revision(paths: Iterable[str]) -> str:
    """What stands for all data of the site: their names carry hashes of their contents."""
    return hashlib.sha256("\n".join(sorted(paths)).encode()).hexdigest()[:12]


def _write_revision(folder: Path, revision: str, growing: bool) -> None:
    """Say beside the page which build it is, for pages of a site that grows: they may be of an earlier one."""
    path = folder / REVISION
    if growing or path.exists():
        replace(path, f"{revision} {'growing' if growing else 'whole'}\n".encode())


def _require_something(held: Survey, atlas_url: str | os.PathLike[str]) -> None:
    if not any(held.counts.values()):
        shown = " or ".join(section.name for section, part in held.parts if section.counts(part))
        raise NothingThere(f"{atlas_url}: no {shown} to show yet; run `neuron-atlas run` into it first")


def _write_page(
    folder: Path, told: dict[str, Any], title: str, target: str, images: str, dataset_url: str | None
) -> set[str]:
    """Write the scripts and, last, the page with its manifest; the paths that it names of them."""
    base = dataset_url if images == "range" else None
    manifest = {
        **told,
        "title": title,
        "images": {"mode": images, "base": app.browser_url(base)},
        "dataset": dataset_url or "",
        "frame": "https://huggingface.co" if target == "hf-space" else "",
    }
    if target == "hf-space":
        replace(folder / "README.md", app.space_card(title).encode())
    return app.write(folder, manifest, base, runs_models=told["runtime"] is not None)


def plan_site(
    atlas_url: str | os.PathLike[str],
    *,
    target: str = "local",
    images: str = "auto",
    dataset_url: str | None = None,
    url: str | None = None,
    browsing: Browsing = NOTHING,
    sections: Sequence[Section[Any]] = SECTIONS,
) -> tuple[Size, str]:
    """What `build_site` would write, from above, and where large pictures would come from; nothing is written.

    Raises what `build_site` raises before it writes: SiteTooLarge too.
    """
    _, mode, _, size, _ = _fitting(atlas_url, target, images, dataset_url, url, sections, browsing)
    return size, mode


def _fitting(
    atlas_url: str | os.PathLike[str],
    target: str,
    images: str,
    dataset_url: str | None,
    url: str | None,
    sections: Sequence[Section[Any]],
    browsing: Browsing,
) -> tuple[Host, str, Survey, Size, cards.Cards | None]:
    """Host, where large pictures come from, what the atlas holds, the size of its site, which the host takes, and which
    link previews there will be.
    """
    host, mode = _settings(target, images, dataset_url)
    own = None if url is None else cards.checked_url(url)
    held = survey(Atlas(os.fspath(atlas_url)), sections)
    _require_something(held, atlas_url)
    size = estimate(held, mode) + in_browser.size(held.outline, browsing)
    check(host, size, mode)
    in_browser.check_files(browsing, target)
    shared = own and cards.choose(held.outline, own, lambda more: fits(host, size + more), host.files)
    more = cards.size(held.outline, shared.level, shared.clusters) if shared else Size()
    return host, mode, held, size + more, shared or None


def _workers() -> int:
    """As many as this machine's cores and free memory allow."""
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):  # not every system says
        free = MOST_WORKERS * LAYER_MEMORY
    return max(1, min(MOST_WORKERS, os.cpu_count() or 1, int(free // LAYER_MEMORY)))


def _write_sections(held: Survey, folder: Path, images: str, workers: int) -> list[tuple[Section[Any], Written]]:
    """Each section with what it wrote."""
    with ThreadPoolExecutor(workers) as pool:
        work = Work(held.outline, folder, images, pool)
        return [(section, section.write(work, part)) for section, part in held.parts]


#: An address that can stand in a page and in its Content-Security-Policy, where a semicolon would begin another rule.
_PUBLISHED = re.compile(r"(https?://[\w.:\[\]-]+(/[^\s'\"<>,;?#\\]*)?|hf://datasets/[\w.-]+/[\w.-]+(@[\w./-]+)?/?)")


def _settings(target: str, images: str, dataset_url: str | None) -> tuple[Host, str]:
    if target not in HOSTS:
        raise BadConfig(f"--target {target}: no such host; expected one of {', '.join(HOSTS)}{_hint(target, HOSTS)}")
    if images not in ("auto", *MODES):
        modes = ("auto", *MODES)
        raise BadConfig(f"--images {images}: expected one of {', '.join(modes)}{_hint(images, modes)}")
    if dataset_url is not None and not _PUBLISHED.fullmatch(dataset_url):
        raise BadConfig(
            f"--dataset-url {dataset_url!r}: expected an address that browsers read, https://HOST/PATH or "
            "hf://datasets/ORG/NAME, without spaces, quotes, commas, semicolons or a query"
        )
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


def claim(folder: Path) -> None:
    """Take `folder` as a site's. Raises ForeignAtlas where it holds anything else."""
    if folder.exists() and not folder.is_dir():
        raise ForeignAtlas(f"{folder}: a file is in the way; name a folder for the site")
    if folder.exists() and any(folder.iterdir()) and not (folder / MARK).exists():
        raise ForeignAtlas(
            f"{folder}: is not empty and holds no site of this project; nothing was touched. "
            "Name a new folder, or empty this one"
        )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).write_text("Built by `neuron-atlas site build`; the next build replaces what is here.\n")


def _prune(folder: Path, kept: set[str], patterns: Iterable[str]) -> None:
    """Remove what earlier builds left where `patterns` say that all is ours; other files of the folder stay."""
    stays = kept | {parent.as_posix() for path in kept for parent in PurePosixPath(path).parents}
    for path in [old for pattern in patterns for old in folder.glob(pattern)]:
        if path.relative_to(folder).as_posix() not in stays and path.exists():
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def measure(folder: Path) -> Size:
    """Files, bytes, and entries of the fullest folder."""
    files = size = largest = 0
    for root, folders, names in os.walk(folder):
        files += len(names)
        size += sum(os.path.getsize(os.path.join(root, name)) for name in names)
        largest = max(largest, len(names) + len(folders))
    return Size(files, size, largest)
