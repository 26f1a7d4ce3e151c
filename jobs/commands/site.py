"""The commands `site build` and `site serve`: the pages of an atlas, built and shown."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from site_builder.build import SiteReport
    from site_builder.in_browser import Browsing
    from site_builder.section import Section


def build(
    atlas: Annotated[str, Parameter(help="The atlas: a folder or URL.")] = "atlas",
    *,
    out: Annotated[Path, Parameter(help="Folder for the site.")] = Path("site"),
    target: Annotated[
        Literal["local", "github-pages", "hf-space", "s3"],
        Parameter(help="The host, whose limits are checked."),
    ] = "local",
    images: Annotated[
        Literal["auto", "range", "sprite", "files"], Parameter(help="Where large pictures come from.")
    ] = "auto",
    dataset_url: Annotated[
        str | None,
        Parameter(help="Where the dataset is published: https://... or hf://datasets/ORG/NAME."),
    ] = None,
    title: Annotated[str, Parameter(help="Title of the site.")] = "Neuron atlas",
    url: Annotated[
        str | None,
        Parameter(help="Address that the site will have: adds link previews and a sitemap.xml."),
    ] = None,
    workers: Annotated[
        int | None, Parameter(help="Layers made at a time, 420 MB each (default: by cores and free memory).")
    ] = None,
    in_browser: Annotated[
        list[str] | None,
        Parameter(
            help="A model of the atlas, or all, that browsers can run on a visitor's image; repeatable.", negative=""
        ),
    ] = None,
    onnxruntime_web: Annotated[
        Path | None,
        Parameter(help="Folder of the npm package onnxruntime-web, for --in-browser (default: npm fetches it)."),
    ] = None,
    with_map: Annotated[
        bool,
        Parameter(
            name="--map", help="Lay all neurons out on a map by what they fire on (neuron-atlas[map]).", negative=""
        ),
    ] = False,
    watch: Annotated[
        float | None,
        Parameter(help="As long as a run is at work: look every so many seconds, and build what is new."),
    ] = None,
    serve: Annotated[
        int | None,
        Parameter(
            help="With --watch, show the site meanwhile at this port of 127.0.0.1 (0: a free one), until Ctrl-C."
        ),
    ] = None,
    dry_run: Annotated[bool, Parameter(help="Say the size of the site; write and fetch nothing.", negative="")] = False,
    as_json: Annotated[bool, Parameter(name="--json", help="Print the report as JSON.", negative="")] = False,
) -> int:
    """Build the static site of an atlas: any file host can serve it from any sub-folder."""
    from atlas_schema.errors import BadConfig
    from site_builder.build import build_site, plan_site
    from site_builder.sections import ON_REQUEST, SECTIONS

    sections = (*SECTIONS, *ON_REQUEST) if with_map else SECTIONS
    if workers is not None and workers < 1:
        raise BadConfig(f"--workers {workers}: expected at least 1.")
    if watch is not None and not watch > 0:
        raise BadConfig(f"--watch {watch:g}: expected seconds, more than 0.")
    if watch is None and serve is not None:
        raise BadConfig("--serve shows a site while it is built: give --watch too, or use `neuron-atlas site serve`.")
    if onnxruntime_web is not None and not in_browser:
        raise BadConfig("--onnxruntime-web is for models that browsers run: name them with --in-browser MODEL.")
    if watch is not None and in_browser:
        raise BadConfig("--in-browser needs a finished atlas: leave it out with --watch, and build once more after.")
    browsing = _browsing(atlas, in_browser or [], onnxruntime_web, foretold=dry_run)
    if dry_run:
        size, mode = plan_site(
            atlas,
            target=target,
            images=images,
            dataset_url=dataset_url,
            url=url,
            browsing=browsing,
            sections=sections,
        )
        told = {"target": target, "images": mode, "files": size.files, "bytes": size.bytes}
        said = f"{out}: at most about {size}, large pictures: {mode}; fits {target}. Nothing was written."
        print(json.dumps(told, indent=1) if as_json else said)
        return 0
    settings: dict[str, Any] = {
        "target": target,
        "images": images,
        "dataset_url": dataset_url,
        "title": title,
        "url": url,
    }
    with ExitStack() as shown:
        if watch is None:
            report = build_site(atlas, str(out), **settings, workers=workers, browsing=browsing, sections=sections)
        else:
            report = _watch(atlas, out, settings, workers, watch, serve, shown, sections)
        told = {name: value for name, value in asdict(report).items() if name != "paths"}
        ends = f"Site: {out}" if serve is not None else f"Site: {out}\nOpen it: neuron-atlas site serve {out}"
        print(json.dumps(told, indent=1) if as_json else f"{report}\n{ends}", flush=True)
        if serve is not None:
            _until_interrupted()
    return 0


def _browsing(atlas: str, names: list[str], folder: Path | None, *, foretold: bool) -> Browsing:
    """The models that browsers are to run, and what runs them: fetched or written only where some are asked for, and
    not where the site is only foretold.
    """
    from site_builder.in_browser import NOTHING, Browsing

    if not names:
        return NOTHING
    from jobs.in_browser import foretold_for_browsers, models_for_browsers
    from site_builder.onnxruntime import NAME, VERSION, kept, runtime_files

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    if not foretold:
        return Browsing(models_for_browsers(atlas, names, say), runtime_files(folder))
    models, there = foretold_for_browsers(atlas, names, say), folder is not None or kept()
    if not there:
        say(f"{NAME} {VERSION}: not fetched yet; a build has npm fetch it")
    return Browsing(models, runtime_files(folder) if there else {})


def _watch(
    atlas: str,
    out: Path,
    settings: dict[str, Any],
    workers: int | None,
    seconds: float,
    port: int | None,
    shown: ExitStack,
    sections: Sequence[Section[Any]],
) -> SiteReport:
    """Build until the run has ended; meanwhile, and as long as `shown` is open, the site is served. What is made on
    request alone comes with the last build: it takes too long to be made again and again.
    """
    from atlas_schema.published import opened
    from jobs.lock import AtWork
    from site_builder.build import build_site, claim
    from site_builder.sections import SECTIONS
    from site_builder.serve import serving
    from site_builder.watch import Watch

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def build(growing: bool, keep: frozenset[str]) -> SiteReport:
        shown = SECTIONS if growing else sections
        return build_site(atlas, str(out), **settings, workers=workers or 1, growing=growing, keep=keep, sections=shown)

    def built(report: SiteReport) -> None:
        say(f"{time.strftime('%H:%M:%S')} {report.said[0]}")

    if port is not None:
        claim(out)
        say(f"{shown.enter_context(serving(out, port))} shows the site as it grows (Ctrl-C ends)")
    store = opened(atlas)
    watch = Watch(store, build, AtWork(store), seconds, say, built)
    report = watch.follow()
    builds = "one build" if watch.builds == 1 else f"{watch.builds} builds, the last of them now,"
    say(f"No run is at work on {atlas}: {builds} took {watch.building_seconds:.0f} s.")
    return report


def _until_interrupted() -> None:
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            time.sleep(3600)


def serve(
    folder: Annotated[Path, Parameter(help="A built site.")] = Path("site"),
    *,
    port: Annotated[int, Parameter(help="Port on 127.0.0.1.")] = 8000,
) -> int:
    """Serve a built site on this machine, until Ctrl-C."""
    from site_builder.serve import serve as serve_folder

    serve_folder(str(folder), port)
    return 0
