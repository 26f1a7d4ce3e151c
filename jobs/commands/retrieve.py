"""retrieve."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.decompose.align import Alignment, Batch, Held
    from pipeline.decompose.contributions import Contributing
    from pipeline.decompose.features import FeatureSet
    from pipeline.embed import Embedder
    from pipeline.models import LoadedModel
    from pipeline.probe_set import ProbeSet

HELD_BYTES = 1 << 30  # contributions are held where they fit, and computed again for each pass where they do not


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
    weights: Annotated[str | None, Parameter(help="A weights file or URL of your own.")] = None,
    as_name: Annotated[str | None, Parameter(name="--as", help="The name of the model with these weights.")] = None,
    input_size: Annotated[int | None, Parameter(help="Pixels, square (default: the model's).")] = None,
    groups: Annotated[int, Parameter(help="Groups of three components to show, the most specific first.")] = 3,
    limit: Annotated[int, Parameter(help="Images to show of each group.")] = 10,
    sheet: Annotated[Path | None, Parameter(help="Draw what was found as a picture.")] = None,
    device: Annotated[str, Parameter(help="cpu or cuda.")] = "cpu",
    as_json: Annotated[bool, Parameter(name="--json", help="Print JSON.", negative="")] = False,
) -> int:
    """Find images by a text or an image, looking only at the components that matter for a feature."""
    from pipeline.models import ModelRequest, load
    from pipeline.probe_set import open_probe_set

    _check(feature, component, text, image, groups, limit)
    request = ModelRequest(model, weights=weights, name=as_name, input_size=input_size)
    search = _Search(load(request, device), open_probe_set(probe), features, embedder, atlas)
    found = search.by_text(feature, component, text, groups) if text else None
    if found is None:
        assert image is not None
        found = search.by_image(feature, component, image, groups)
    rows = [_row(search.probe, one, limit) for one in found]
    query = text if text is not None else str(image)
    if sheet is not None:
        _draw(sheet, search.probe, query, image, rows)
    if as_json:
        told = {"model": search.model.description.id, "feature": feature, "query": query, "groups": rows}
        print(json.dumps(told, indent=1))
    else:
        print("\n".join(_text(rows)))
    return 0


@dataclass(frozen=True)
class _Found:
    """What one group of components says of all images. values: (images,)."""

    components: list[str]
    values: Tensor


class _Search:
    """A model, the images to search among, and what both need to be compared with texts."""

    def __init__(
        self, model: LoadedModel, probe: ProbeSet, features: str | None, embedder: str, atlas: str | None
    ) -> None:
        from pipeline.decompose.align import Held
        from pipeline.decompose.contributions import Contributing

        self.model, self.probe = model, probe
        self._features, self._embedder, self._atlas = features, embedder, atlas
        self.contributing: Contributing = Contributing(model)
        self.batches: Held = Held(self._read, HELD_BYTES)
        self._vectors(0, 1)  # what reaches the representation is known from the first image on

    def by_text(self, feature: str | None, component: list[str] | None, text: str, groups: int) -> list[_Found]:
        from pipeline.retrieval import along

        clip, told = self._clip(), self._feature_set()
        alignment = self._alignment(clip)
        prompt = told.prompt_of(feature, text) if feature else text
        chosen = self._chosen(feature, component, groups, alignment, clip)
        values = along(self.batches(), chosen, alignment, clip.texts([prompt])[0].cpu())
        return self._found(chosen, values)

    def by_image(self, feature: str | None, component: list[str] | None, image: Path, groups: int) -> list[_Found]:
        import torch

        from pipeline.preprocess import pixels_of
        from pipeline.retrieval import likeness, restricted

        x = pixels_of(_opened(image), self.model.description)[None]
        query = self._contributions(x)[0]  # (components, d)
        clip = self._clip() if feature else None
        alignment = self._alignment(clip) if clip else None
        chosen = self._chosen(feature, component, groups, alignment, clip)
        wanted = torch.stack([query[group].sum(0) for group in chosen])
        return self._found(chosen, likeness(restricted(self.batches(), chosen), wanted))

    def _chosen(
        self,
        feature: str | None,
        component: list[str] | None,
        groups: int,
        alignment: Alignment | None,
        clip: Embedder | None,
    ) -> list[list[int]]:
        """Groups of components; the last one is all that add up to the representation, to compare with."""
        from pipeline.decompose.choosing import merits, named, ranked
        from pipeline.decompose.contributions import direct_places
        from pipeline.decompose.features import Lens
        from pipeline.retrieval import GROUP

        levels, components = self.contributing.levels, self.contributing.components
        direct = direct_places(levels)
        if component:
            first = [named(components, component)]
        else:
            assert feature is not None
            assert alignment is not None
            assert clip is not None
            told = self._feature_set()
            told.prompt_of(feature, "")  # says which features there are
            lens = Lens.of({name: clip.texts(texts).cpu() for name, texts in told.prompts.items()}, alignment, levels)
            place = lens.features.index(feature)
            order = ranked(merits(self.batches(), lens)[:, place], components, direct)
            first = [order[start : start + GROUP] for start in range(0, min(groups * GROUP, len(order)), GROUP)]
        return [*first, direct.nonzero()[:, 0].tolist()]

    def _found(self, chosen: Sequence[Sequence[int]], values: Tensor) -> list[_Found]:
        names = [one.name for one in self.contributing.components]
        told = [[names[place] for place in group] for group in chosen[:-1]]
        return [_Found(group, one) for group, one in zip([*told, ["all"]], values, strict=True)]

    def _clip(self) -> Embedder:
        from pipeline.embed import load_embedder
        from pipeline.models import ModelRequest

        clip = load_embedder(ModelRequest(self._embedder), self.model.device)
        clip.texts(["a"] if self._embedder != "zoo/clip" else ["a red object"])  # refuses a model without a text tower
        return clip

    def _feature_set(self) -> FeatureSet:
        from pipeline.decompose.features import read_features

        return read_features(self._features or ("zoo" if self._embedder == "zoo/clip" else "general"))

    def _alignment(self, clip: Embedder) -> Alignment:
        import torch

        from pipeline.decompose.align import Alignment, fit_alignment
        from pipeline.probe_set import batches

        levels = self.contributing.levels
        if self.model.fingerprint == clip.vision.fingerprint:
            return Alignment.own(len(levels), self.model.description.representation_dim)
        if self._atlas is not None:
            from atlas_schema.store import Store
            from jobs.heads import alignment_of

            return alignment_of(Store(self._atlas), self.model.description.slug)
        every = range(len(self.probe))
        pictures = batches(self.probe, every, clip.vision.description, 32)
        targets = torch.cat([clip.pictures(x).cpu() for _, x in pictures])
        fit = torch.tensor([self.probe.split(index) == "fit" for index in every])
        return fit_alignment(self.batches, targets, fit, levels)

    def _read(self) -> Iterator[Batch]:
        for start in range(0, len(self.probe), 16):
            yield self._vectors(start, min(start + 16, len(self.probe)))

    def _vectors(self, start: int, stop: int) -> Batch:
        import torch

        from pipeline.probe_set import batches

        ((places, pixels),) = batches(self.probe, range(start, stop), self.model.description, stop - start)
        return torch.tensor(places), self._contributions(pixels)

    def _contributions(self, pixels: Tensor) -> Tensor:
        """(images, components, d), float32, on the CPU. pixels: (images, 3, height, width) in [0, 1]."""
        x = self.model.normalise(pixels.to(self.model.device))
        return self.contributing(x).vectors.float().cpu()


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


def _opened(path: Path) -> Any:
    from atlas_schema.errors import BadConfig, BadImage
    from pipeline.probe_sets.images import decoded

    try:
        return decoded(path.read_bytes())
    except (OSError, BadImage) as error:
        raise BadConfig(
            f"--image {path}: cannot be read ({error}). Give an image file, such as a JPEG or PNG."
        ) from error


def _row(probe: ProbeSet, found: _Found, limit: int) -> dict[str, Any]:
    from pipeline.retrieval import first

    images = [
        {"image": probe.images[place].id, "index": place, "value": round(float(found.values[place]), 5),
         "class": probe.images[place].label or None}
        for place in first(found.values, limit)
    ]  # fmt: skip
    return {"components": found.components, "images": images}


def _text(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    for row in rows:
        yield ", ".join(row["components"])
        for one in row["images"]:
            yield f"  {one['value']:9.4f}  {one['image']}{'  ' + one['class'] if one['class'] else ''}"


def _draw(path: Path, probe: ProbeSet, query: str, image: Path | None, rows: Sequence[dict[str, Any]]) -> None:
    from atlas_schema.errors import BadConfig
    from pipeline.contact_sheet import Row, contact_sheet

    told = [Row(f"searched by {Path(query).name}", [_opened(image)], [""])] if image is not None else []
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
