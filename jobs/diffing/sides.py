"""What is compared: one model of one atlas a side; and why two of them cannot be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from atlas_schema.errors import BadConfig, NothingThere
from atlas_schema.read import Atlas

SITE_FACTS = ("layer", "width", "heads", "head_dim")  # the sizes that make two sites of a kind the same


@dataclass(frozen=True)
class Side:
    """One model of an atlas; `url` is the atlas as the user named it."""

    url: str
    slug: str
    atlas: Atlas = field(repr=False)

    @cached_property
    def model(self) -> dict[str, Any]:
        """The model's row. NothingThere for an unknown slug."""
        found = [row for row in self.atlas.models() if row["slug"] == self.slug]
        if not found:
            self.atlas.sites(self.slug)  # names the nearest
            raise NothingThere(f"{self.url}: no row of {self.slug} in its table models")
        return found[0]

    @cached_property
    def sites(self) -> list[dict[str, Any]]:
        return self.atlas.sites(self.slug)

    @property
    def name(self) -> str:
        return f"{self.slug} in {self.url}"


def sides_of(first: str, second: str | None, models: Sequence[str]) -> list[tuple[Side, Side]]:
    """The pairs of models that a command line names: two of one atlas; or one, or all shared ones, of two atlases.

    BadConfig for another number of models, NothingThere where there is no atlas or the two share no model.
    """
    a = Atlas(first)
    b = a if second in (None, first) else Atlas(str(second))
    url = first if second is None else second
    if len(models) > 2 or (second is None and len(models) < 2):
        raise BadConfig(
            f"{len(models)} models and {1 if second is None else 2} atlases: expected one atlas and --models X Y, or "
            "two atlases A B (with --models X, where one model of both is meant; or X Y, one of each)."
        )
    if models:
        return [(Side(first, models[0], a), Side(url, models[-1], b))]
    slugs = [{row["slug"] for row in atlas.models()} for atlas in (a, b)]
    for place, found in zip((first, url), slugs, strict=True):
        if not found:
            raise NothingThere(f"{place}: no atlas here: expected a folder or URL with models/ in it")
    shared = sorted(slugs[0] & slugs[1])
    if not shared:
        raise NothingThere(
            f"{first} and {url} share no model: {_listed(slugs[0])}; {_listed(slugs[1])}. "
            "Name one of each: --models X Y."
        )
    return [(Side(first, slug, a), Side(url, slug, b)) for slug in shared]


def require_comparable(first: Side, second: Side) -> None:
    """BadConfig where the two are of other architectures or measured on other images; NothingThere where unmeasured."""
    if first.model["family"] != second.model["family"]:
        raise BadConfig(
            f"{first.name} is of the family {first.model['family']}, {second.name} of {second.model['family']}: "
            "neurons are compared by address between models of one architecture alone. Counterparts across "
            "architectures are what the stage match finds (docs/matches.md)."
        )
    for kind, what in (("ffn", "FFN layers"), ("attention", "attention layers")):
        sizes = [
            [tuple(row[name] for name in SITE_FACTS) for row in side.sites if row["kind"] == kind]
            for side in (first, second)
        ]
        if sizes[0] != sizes[1]:
            raise BadConfig(
                f"{first.name} and {second.name} differ in their {what}: {_sizes(sizes[0], kind)} against "
                f"{_sizes(sizes[1], kind)}. Only checkpoints of one architecture have neurons of the same address."
            )
    for side in (first, second):
        if side.model["probe_set"] is None:
            raise NothingThere(
                f"{side.name} was never shown images, so nothing says what its neurons mean. Run `neuron-atlas run "
                f"--model {side.model['model_id']} --probe SET --stages probe` into this atlas, with "
                "the same SET for both."
            )
    if first.model["probe_set"] != second.model["probe_set"]:
        raise BadConfig(
            f"{first.name} was measured on the probe set {_set_of(first)}, {second.name} on {_set_of(second)}: neurons "
            "are compared on the same images. Run one of them again with the probe set of the other, into an atlas of "
            "its own."
        )


def _set_of(side: Side) -> str:
    return f"{side.model['probe_set']} ({side.model['probe_name']})"


def _sizes(sizes: list[tuple[Any, ...]], kind: str) -> str:
    """'12 layers of 3072' or '12 layers of 6 heads': the number of layers and their sizes, the first three."""
    counts = [str(row[1] if kind == "ffn" else row[2]) for row in sizes]
    shown = ", ".join(dict.fromkeys(counts[:3])) + (", ..." if len(set(counts)) > 3 else "")
    return f"{len(sizes)} of {shown or 'none'} {'neurons' if kind == 'ffn' else 'heads'}"


def _listed(slugs: set[str]) -> str:
    return ", ".join(sorted(slugs)[:8]) or "none"
