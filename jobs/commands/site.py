"""The commands `site build` and `site serve`: the pages of an atlas, built and shown."""

from __future__ import annotations

import json
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter


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
        int | None, Parameter(help="Layers made at a time, 300 MB each (default: by cores and free memory).")
    ] = None,
    dry_run: Annotated[bool, Parameter(help="Say the size of the site and write nothing.", negative="")] = False,
    as_json: Annotated[bool, Parameter(name="--json", help="Print the report as JSON.", negative="")] = False,
) -> int:
    """Build the static site of an atlas: any file host can serve it from any sub-folder."""
    from atlas_schema.errors import BadConfig
    from site_builder.build import build_site, plan_site

    if workers is not None and workers < 1:
        raise BadConfig(f"--workers {workers}: expected at least 1.")
    if dry_run:
        size, mode = plan_site(atlas, target=target, images=images, dataset_url=dataset_url, url=url)
        told = {"target": target, "images": mode, "files": size.files, "bytes": size.bytes}
        said = f"{out}: at most about {size}, large pictures: {mode}; fits {target}. Nothing was written."
        print(json.dumps(told, indent=1) if as_json else said)
        return 0
    report = build_site(
        atlas, str(out), target=target, images=images, dataset_url=dataset_url, title=title, url=url, workers=workers
    )
    if as_json:
        print(json.dumps(asdict(report) if is_dataclass(report) else str(report), indent=1, default=str))
    else:
        print(f"{report}\nSite: {out}\nOpen it: neuron-atlas site serve {out}")
    return 0


def serve(
    folder: Annotated[Path, Parameter(help="A built site.")] = Path("site"),
    *,
    port: Annotated[int, Parameter(help="Port on 127.0.0.1.")] = 8000,
) -> int:
    """Serve a built site on this machine, until Ctrl-C."""
    from site_builder.serve import serve as serve_folder

    serve_folder(str(folder), port)
    return 0
