"""What a head looks like: pictures that make a head add as much as it can along one of its directions.

A target is a direction in the space of the final representation in which what the head adds varies over images: either
end of its first principal axis, or a text of its TextSpan. Climbed is the projection of the head's direct contribution,
in standard deviations of the probe images' own. Other models cannot read such a picture: no head of theirs is the same.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from atlas_schema.errors import BadConfig
from pipeline.decompose import Contributing, Level, LiveHeads, random_pictures
from pipeline.invert.targets import Target
from pipeline.models import LoadedModel

_HEAD = re.compile(r"(\d+)\.(\d+)")


@dataclass(eq=False)
class HeadOutputs:
    """Directions of heads of a model, and what probe images reach along each.

    heads: numbers in the order of attention sites, one a direction. directions: (n, d), zero where there is none. mean:
    (n, d), of the head's contribution over the probe images; spread: (n,), standard deviation along the direction.
    """

    contributing: Contributing
    heads: tuple[int, ...]
    directions: Tensor
    mean: Tensor
    spread: Tensor
    kind: str = "head"

    def __post_init__(self) -> None:
        self._live = LiveHeads(self.contributing.model)

    @property
    def there(self) -> Tensor:
        """bool (n,): whether there is such a direction, along which the head varies at all."""
        return (self.directions.norm(dim=1) > 0) & (self.spread > 0)

    def deviations(self, x: Tensor, index: Tensor) -> Tensor:
        """How far each picture brings its head along the direction `index`, in standard deviations of probe images from
        their mean: (n,), with a gradient to x, (n, 3, height, width), normalised.
        """
        directions, mean, spread = (own.to(x)[index.to(own.device)] for own in self._parts)
        along = self._live.along(x, [self.heads[one] for one in index.tolist()], directions)
        return (along - (mean * directions).sum(1)) / spread

    def read(self, index: Sequence[int], pictures: Tensor, batch: int = 64) -> tuple[Tensor, Tensor, Tensor]:
        """Of pictures (n, 3, height, width) in [0, 1]: the projection of the contribution less its mean, the same in
        standard deviations, and the cosine of contribution less mean and direction; float64 (n,) each.
        """
        model, said = self.contributing.model, []
        places = torch.as_tensor(index, dtype=torch.int64)
        for some, own in zip(pictures.split(batch), places.split(batch), strict=True):
            found = self.contributing(model.normalise(some.to(model.device)), through=False).vectors
            vectors = found[torch.arange(len(own)), [self.heads[one] for one in own.tolist()]].double().cpu()
            directions, mean, spread = (part.double().cpu()[own] for part in self._parts)
            along = ((vectors - mean) * directions).sum(1)
            cosine = F.cosine_similarity(vectors - mean, directions)
            said.append(torch.stack([along, along / spread, cosine]))
        projection, deviations, cosine = torch.cat(said, 1)
        return projection, deviations, cosine

    @property
    def _parts(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.directions, self.mean, self.spread


def direct_heads(model: LoadedModel) -> list[bool]:
    """Of each head, in the order of attention sites, whether it has a direct effect, and so a contribution to climb."""
    contributing = Contributing(model)
    contributing.look_at(model.normalise(random_pictures(model, 2)))
    return [level == Level.DIRECT for level in contributing.levels[: model.description.heads]]


def head_targets(model: LoadedModel, wanted: Sequence[str], directions: Sequence[str]) -> list[Target]:
    """A target for each direction of each head, in the order of attention sites.

    wanted: heads such as `3.2` (layer 3, head 2), or `all` alone: those with a direct effect. directions: their names,
    such as `axis 0 high`. BadConfig for a head that is not there, comes twice or has no direct effect.
    """
    sites = model.description.attention_sites
    names = [f"{site.layer}.{head}" for site in sites for head in range(site.heads)]
    direct = dict(zip(names, direct_heads(model), strict=True))
    if tuple(wanted) == ("all",):
        chosen = [name for name in names if direct[name]]
    else:
        for place, name in enumerate(wanted):
            _check_head(model.description.slug, name, direct, name in wanted[:place])
        chosen = [name for name in names if name in wanted]
    told = [f"{name}/{direction.replace(' ', '-')}" for name in chosen for direction in directions]
    return [Target("head", index, text) for index, text in enumerate(told)]


def _check_head(slug: str, name: str, direct: dict[str, bool], twice: bool) -> None:
    if not _HEAD.fullmatch(name) or name not in direct:
        first, last = next(iter(direct)), [*direct][-1]
        raise BadConfig(
            f"head_pictures: {name!r} is no head of {slug}; expected LAYER.HEAD from {first} to {last}, or all."
        )
    if twice:
        raise BadConfig(f"head_pictures: {name} comes twice: name each head once.")
    if not direct[name]:
        raise BadConfig(
            f"head_pictures: head {name} of {slug} has no direct effect: what it writes reaches the representation "
            "through later attention only, so that no picture can climb its own contribution. Leave it out."
        )
