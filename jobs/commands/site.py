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
    as_json: Annotated[bool, Parameter(name="--json", help="Print the report as JSON.", negative="")] = False,
) -> int:
    """Build the static site of an atlas: any file host can serve it from any sub-folder."""
    from site_builder.build import build_site

    report = build_site(atlas, str(out), target=target, images=images, dataset_url=dataset_url)
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
