"""The command `retrieve`: images by a text or an image, as only some heads and FFNs see them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from jobs.commands.own_checkpoint import NONE, OwnCheckpoint

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.decompose import FeatureSet
    from pipeline.images.probe_set import ProbeSet
    from pipeline.uses.comparison import Compared

_Groups = list[list[int]]


def retrieve(
    *,
    model: Annotated[str, Parameter(help="timm/NAME, open_clip/NAME/TAG or zoo/NAME.")],
    probe: Annotated[str, Parameter(help="Where to search: zoo:N, a folder, an archive, hf:NAME.")],
    feature: Annotated[str | None, Parameter(help="Look at the components that matter for this feature.")] = None,
    component: Annotated[
        list[str] | None, Parameter(help="Look at these components instead: head/3/1, ffn/2; repeat for several.")
    ] = None,
    text: Annotated[str | None, Parameter(help="Search by a text.")] = None,
    image: Annotated[Path | None, Parameter(help="Search by an image file.")] = None,
    features: Annotated[
        str | None, Parameter(help="A set of features: a name or TOML file (default: zoo or general).")
    ] = None,
    embedder: Annotated[str, Parameter(help="The CLIP that texts are compared in.")] = "zoo/clip",
    atlas: Annotated[str | None, Parameter(help="Take the model's alignment from this atlas.")] = None,
    checkpoint: OwnCheckpoint = NONE,
    groups: Annotated[int, Parameter(help="Groups of three components to show, the most specific first.")] = 3,
    limit: Annotated[int, Parameter(help="Images to show of each group.")] = 10,
    sheet: Annotated[Path | None, Parameter(help="Draw what was found as a picture.")] = None,
    device: Annotated[str, Parameter(help="cpu or cuda.")] = "cpu",
    as_json: Annotated[bool, Parameter(name="--json", help="Print JSON.", negative="")] = False,
) -> int:
    """Find images by a text or an image, looking only at the components that matter for a feature."""
    from jobs.commands.comparing import compared, feature_set, opened
    from pipeline.uses.retrieval import along

    _check(feature, component, text, image, groups, limit)
    told = feature_set(features, embedder)
    prompt = told.prompt_of(feature, text or "") if feature else text or ""
    if image is not None:
        opened(image, "--image")  # what cannot be read is said before anything is computed
    request = checkpoint.request(model)
    looked = compared(request, probe, embedder if feature or text else None, atlas, device)
    wanted = looked.clip.texts([prompt])[0].cpu() if text else None  # words it does not know are said now
    chosen = _chosen(looked, told, feature, component, groups)
    if wanted is not None:
        values = along(looked.batches(), chosen, looked.alignment, wanted)
    else:
        assert image is not None
        values = _by_image(looked, chosen, image)
    names = [one.name for one in looked.components]
    shown = [*([names[place] for place in group] for group in chosen[:-1]), ["all"]]
    own = _own_place(looked.probe, image) if image is not None else None
    rows = [_row(looked.probe, *one, limit, own) for one in zip(shown, values, strict=True)]
    query = text if text is not None else str(image)
    if sheet is not None:
        _draw(sheet, looked.probe, query, image, rows)
    if as_json:
        found = {"model": looked.model.description.id, "feature": feature, "query": query, "groups": rows}
        print(json.dumps(found, indent=1))
    else:
        print("\n".join(_text(rows)))
    return 0


def _chosen(
    looked: Compared, told: FeatureSet, feature: str | None, component: list[str] | None, groups: int
) -> _Groups:
    """Groups of components; the last one is all that add up to the representation, to compare with."""
    from pipeline.uses.choosing import named, ranked
    from pipeline.uses.retrieval import GROUP

    if component:
        first = [named(looked.components, component)]
    else:
        assert feature is not None
        order = ranked(looked.merits(told)[feature], looked.components, looked.direct)
        first = [order[start : start + GROUP] for start in range(0, min(groups * GROUP, len(order)), GROUP)]
    return [*first, looked.direct.nonzero()[:, 0].tolist()]


def _by_image(looked: Compared, groups: _Groups, image: Path) -> Tensor:
    import torch

    from jobs.commands.comparing import opened
    from pipeline.models.preprocess import pixels_of
    from pipeline.uses.retrieval import likeness, restricted

    query = looked.contributions(pixels_of(opened(image, "--image"), looked.model.description)[None])[
        0
    ]  # (components, d)
    wanted = torch.stack([query[group].sum(0) for group in groups])
    return likeness(restricted(looked.batches(), groups), wanted)


def _check(
    feature: str | None, component: list[str] | None, text: str | None, image: Path | None, groups: int, limit: int
) -> None:
    from atlas_schema.errors import BadConfig

    if (text is None) == (image is None):
        raise BadConfig("retrieve needs one of --text and --image: what to search by.")
    if not text and image is None:
        raise BadConfig("--text is empty: give a word or phrase to search by.")
    if (feature is None) == (not component):
        raise BadConfig("retrieve needs one of --feature NAME and --component NAME: what to look at.")
    if groups < 1 or limit < 1:
        raise BadConfig(f"--groups {groups} --limit {limit}: expected at least 1 each.")


def _own_place(probe: ProbeSet, image: Path) -> int | None:
    """Where the image that is searched by stands in the probe set itself, byte for byte."""
    sha256 = hashlib.sha256(image.read_bytes()).hexdigest()
    return next((place for place, one in enumerate(probe.images) if one.sha256 == sha256), None)


def _row(probe: ProbeSet, components: list[str], values: Tensor, limit: int, leave_out: int | None) -> dict[str, Any]:
    from pipeline.uses.retrieval import first

    images = [
        {"image": probe.images[place].id, "index": place, "value": round(float(values[place]), 5),
         "class": probe.images[place].label or None}
        for place in first(values, limit, leave_out)
    ]  # fmt: skip
    return {"components": components, "images": images}


def _text(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    for row in rows:
        yield ", ".join(row["components"])
        for one in row["images"]:
            yield f"  {one['value']:9.4f}  {one['image']}{'  ' + one['class'] if one['class'] else ''}"


def _draw(path: Path, probe: ProbeSet, query: str, image: Path | None, rows: Sequence[dict[str, Any]]) -> None:
    from atlas_schema.errors import BadConfig
    from jobs.commands.comparing import opened
    from pipeline.draw.contact_sheet import Row, contact_sheet

    told = [Row(f"searched by {Path(query).name}", [opened(image, "--image")], [""])] if image is not None else []
    for row in rows:
        title = ", ".join(row["components"]) + ("" if image is not None else f": {query}")
        pictures = [probe.open(one["index"]) for one in row["images"]]
        told.append(Row(title, pictures, [f"{one['value']:.3f} {one['class'] or ''}" for one in row["images"]]))
    try:
        contact_sheet(told).save(path)
    except (OSError, ValueError) as error:
        raise BadConfig(
            f"--sheet {path}: the picture cannot be written there ({error}). Give a file name that ends in .png or "
            ".jpg in a folder that exists."
        ) from error
