"""Features as groups of texts (colour: red, green, ...), and how much each component of a model matters for them.

A file of features is TOML:

    name = "birds"
    source = "field notes of the project"
    licence = "CC0-1.0"
    template = "a photo of a {}"  # optional: what each text is put into before it is embedded

    [features]
    plumage = ["red bird", "black bird"]
    place = ["bird in a tree", "bird on water"]

    [values]  # optional: what probe images call what the texts of a feature say, in the same order
    plumage = ["red", "black"]

Scores after Balasubramanian, Basu, Feizi (2406.01583), from sums over images that merge: no contribution is kept.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from atlas_schema.errors import BadConfig, nearest
from pipeline.decompose.alignment import Alignment
from pipeline.decompose.components import Level
from pipeline.decompose.contributions import direct_components
from pipeline.label.concepts import fetched

SHIPPED = Path(__file__).parent / "feature_sets"
TEXTS = ("name", "source", "licence", "template")
GROUPS = ("features", "values")
LONGEST = 200
"""Characters of a text, at most: CLIP reads 77 tokens, and a text has to fit on a page."""

Answers = dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class FeatureSet:
    """Texts of each feature in the order of their file; `template` is "" or holds one `{}`.

    values: for each feature what an image's attribute of this name is called, one a text.
    """

    name: str
    features: Answers
    source: str = ""
    licence: str = ""
    template: str = ""
    values: Answers = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.features)

    @property
    def prompts(self) -> Answers:
        """The texts as they are embedded."""
        template = self.template or "{}"
        return {name: tuple(template.replace("{}", text) for text in texts) for name, texts in self.features.items()}

    def prompt_of(self, feature: str, text: str) -> str:
        """The prompt for a user's text: that of the text or value it names, else the text itself in the template.
        BadConfig for a feature that is not there.
        """
        if feature not in self.features:
            close = ", ".join(nearest(feature, self.features) or self.features)
            raise BadConfig(f"{feature!r}: no feature of {self.name}; expected one of: {close}.")
        wanted = " ".join(text.casefold().split())
        for names in (self.features[feature], self.values.get(feature, ())):
            for name, prompt in zip(names, self.prompts[feature], strict=False):
                if name.casefold() == wanted:
                    return prompt
        return (self.template or "{}").replace("{}", text)

    @property
    def identity(self) -> str:
        """16 hex digits of SHA-256 over what decides a score: features and prompts, in order."""
        prompts = "\n".join("\0".join((name, *texts)) for name, texts in self.prompts.items())
        return hashlib.sha256(prompts.encode()).hexdigest()[:16]

    @property
    def title(self) -> str:
        """Name and identity, as the column `feature_set` has it."""
        return f"{self.name}-{self.identity}"

    def answers(self, attributes: Sequence[Mapping[str, str]]) -> Tensor:
        """Which text of each feature is true of each image: int64 (images, features), -1 where nothing tells.

        attributes: of each image by name; an image tells a feature by an attribute of its name.
        """
        index_of = [
            {value: index for index, value in enumerate(self.values.get(name, texts))}
            for name, texts in self.features.items()
        ]
        rows = [
            [known.get(image.get(name, ""), -1) for name, known in zip(self.features, index_of, strict=True)]
            for image in attributes
        ]
        return torch.tensor(rows, dtype=torch.int64).reshape(len(rows), len(self))


def shipped_features() -> tuple[str, ...]:
    """Names of the sets that come with the package."""
    return tuple(sorted(path.stem for path in SHIPPED.glob("*.toml")))


def read_features(location: str) -> FeatureSet:
    """A shipped set by its name, or a file by its path or fsspec URL.

    BadConfig where there is none, it is not UTF-8, not TOML, has an unknown key, or a feature with fewer than two
    texts, a text twice or one longer than 200 characters.
    """
    if location in shipped_features():
        path = SHIPPED / f"{location}.toml"
        return parse_features(path.read_bytes(), path.name, location)
    return parse_features(
        fetched(location, "set of features", shipped_features()), location, Path(location.rstrip("/")).stem
    )


def parse_features(content: bytes, origin: str, name: str = "") -> FeatureSet:
    """The set in the bytes of a file; `origin` is what errors call it, `name` what it is called without a name."""
    table = _toml(content, origin)
    unknown = [key for key in table if key not in (*TEXTS, *GROUPS)]
    if unknown:
        close = ", ".join(nearest(unknown[0], (*TEXTS, *GROUPS)) or (*TEXTS, *GROUPS))
        raise BadConfig(f"{origin}: unknown key {_short(unknown[0])}; expected {close}.")
    texts = {key: _text(table.get(key, ""), f"{origin}: {key}") for key in TEXTS}
    if texts["template"] and texts["template"].count("{}") != 1:
        raise BadConfig(f"{origin}: the template {_short(texts['template'])} needs {{}} once, where the text goes.")
    features = _groups(table.get("features", {}), f"{origin}: [features]")
    if not features:
        raise BadConfig(
            f'{origin}: no feature. Expected a table [features] with lines such as colour = ["red", "green"].'
        )
    values = _groups(table.get("values", {}), f"{origin}: [values]")
    for feature, names in values.items():
        if len(names) != len(features.get(feature, ())):
            raise BadConfig(
                f"{origin}: [values] {feature} has {len(names)} values, [features] {feature} "
                f"{len(features.get(feature, ()))} texts; expected one value a text."
            )
    return FeatureSet(texts["name"] or name or "features", features, texts["source"], texts["licence"],
                      texts["template"], values)  # fmt: skip


def basis(texts: Tensor) -> Tensor:
    """An orthonormal basis of what texts (T, e) span: float32 (r, e), r its dimension.

    Gram-Schmidt in the order of the texts, which is what a QR decomposition gives up to signs, and signs do not
    change a score. A text that those before it span (but for a millionth of its length) adds no direction.
    """
    directions: list[Tensor] = []
    for text in texts.double():
        rest = text
        for _ in range(2):  # the second pass removes what rounding left
            for direction in directions:
                rest = rest - (rest @ direction) * direction
        if rest.norm() > 1e-6 * text.norm():
            directions.append(rest / rest.norm())
    return torch.stack(directions).float() if directions else texts.new_zeros(0, texts.shape[1]).float()


@dataclass(frozen=True)
class Lens:
    """The texts of some features and orthonormal bases of them, in the own space of each component of a model.

    texts: (components, T, d) and basis: (components, R, d), feature after feature; text_offset: (T,): what the bias
    of the alignment adds to the whole; text_counts, basis_counts: how many of each a feature has; direct:
    (components,) bool.
    """

    features: tuple[str, ...]
    texts: Tensor
    text_offset: Tensor
    text_counts: tuple[int, ...]
    basis: Tensor
    basis_counts: tuple[int, ...]
    direct: Tensor

    @classmethod
    def of(cls, embedded: Mapping[str, Tensor], alignment: Alignment, levels: Sequence[Level]) -> Lens:
        """The lens of some features, seen through an alignment.

        embedded: for each feature the embeddings (T, e) of its prompts, each of length 1.
        """
        bases = [basis(texts) for texts in embedded.values()]
        texts = torch.cat(list(embedded.values())).float()
        return cls(
            features=tuple(embedded),
            texts=alignment.pull(texts),
            text_offset=texts @ alignment.bias.to(texts),
            text_counts=tuple(len(texts_of_feature) for texts_of_feature in embedded.values()),
            basis=alignment.pull(torch.cat(bases)),
            basis_counts=tuple(len(texts_of_feature) for texts_of_feature in bases),
            direct=direct_components(levels, texts.device),
        )


class FeatureSums:
    """Sums over images of how components and the whole representation go together along features, and of how often a
    text flips when a component is replaced by its mean. Centred, float64.

    mean, squares, products: (components, R), the mean of a contribution along each basis direction, the sum of squared
    deviations from it, the sum of products with the deviations of the whole; whole_mean, whole_squares: (R,). flips:
    (components, features), how many of the `ablated` images get another text as the nearest of the feature.
    """

    FIELDS = ("images", "mean", "squares", "products", "whole_mean", "whole_squares", "ablated", "flips")

    def __init__(self, components: int, directions: int, features: int, device: torch.device | str = "cpu") -> None:
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=device)

        self.images, self.ablated = zeros(), zeros()
        self.mean, self.squares = zeros(components, directions), zeros(components, directions)
        self.products = zeros(components, directions)
        self.whole_mean, self.whole_squares = zeros(directions), zeros(directions)
        self.flips = zeros(components, features)

    @classmethod
    def empty(cls, lens: Lens) -> FeatureSums:
        components, directions = lens.basis.shape[:2]
        return cls(components, directions, len(lens.features), lens.basis.device)

    def update(self, vectors: Tensor, lens: Lens, means: Tensor | None = None) -> None:
        """Take in the contributions of at least one image, vectors: (images, components, d).

        means: (components, d), of the contributions over all images, from an earlier pass; without them no flips are
        counted.
        """
        along = torch.einsum("nkd,krd->nkr", vectors, lens.basis.to(vectors)).double()
        whole = along[:, lens.direct].sum(1)
        batch = FeatureSums.empty(lens)
        batch.images += len(along)
        batch.mean, batch.whole_mean = along.mean(0), whole.mean(0)
        around, about = along - batch.mean, whole - batch.whole_mean
        batch.squares, batch.whole_squares = around.square().sum(0), about.square().sum(0)
        batch.products = (around * about[:, None]).sum(0)
        if means is not None:
            batch.ablated += len(along)
            batch.flips += _flips(vectors, means.to(vectors), lens)
        self.merge(batch)

    def merge(self, other: FeatureSums) -> None:
        """Take in the sums of other images: about the common mean, from those about two means (Chan et al. 1979)."""
        images = self.images + other.images
        if float(images) == 0:
            return
        share = other.images / images
        weight = self.images * share
        shift, drift = other.mean - self.mean, other.whole_mean - self.whole_mean
        self.squares = self.squares + other.squares + weight * shift.square()
        self.products = self.products + other.products + weight * shift * drift
        self.whole_squares = self.whole_squares + other.whole_squares + weight * drift.square()
        self.mean, self.whole_mean = self.mean + share * shift, self.whole_mean + share * drift
        self.ablated, self.flips = self.ablated + other.ablated, self.flips + other.flips
        self.images = images

    def finalize(self, lens: Lens) -> dict[str, Tensor]:
        """How much each component matters for each feature: (components, features), float64, each.

        score: mean over a feature's basis of the correlation between
        contribution and whole, 0 along a direction where one of them never changes. variance_share: the sum of
        covariances over the sum of variances of the whole; adds up to 1 over components; NaN for those without direct
        effect, and where the whole never changes. selectivity: of what a contribution varies along the bases of all
        features, the share along this one's. flips: share of images, NaN where nothing was ablated.
        """
        steady = (self.squares <= self._rounding(self.mean)) | (self.whole_squares <= self._rounding(self.whole_mean))
        spread = (self.squares * self.whole_squares).sqrt()
        correlation = torch.where(steady, 0.0, self.products / torch.where(steady, 1.0, spread)).clamp(-1, 1)
        covariance = self.products.split(lens.basis_counts, dim=1)
        variance = torch.stack([part.sum() for part in self.whole_squares.split(lens.basis_counts)])
        share = torch.stack([part.sum(1) for part in covariance], dim=1) / variance
        own = torch.stack([part.sum(1) for part in self.squares.split(lens.basis_counts, dim=1)], dim=1)
        return {
            "score": torch.stack([part.mean(1) for part in correlation.split(lens.basis_counts, dim=1)], dim=1),
            "variance_share": torch.where(lens.direct[:, None] & (variance > 0), share, torch.nan),
            "selectivity": own / own.sum(1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny),
            "flips": self.flips / self.ablated,
        }

    def arrays(self) -> dict[str, np.ndarray]:
        return {name: getattr(self, name).cpu().numpy() for name in self.FIELDS}

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> FeatureSums:
        sums = cls(0, 0, 0)
        for name in cls.FIELDS:
            setattr(sums, name, torch.from_numpy(np.array(arrays[name])))
        return sums

    def _rounding(self, mean: Tensor) -> Tensor:
        """What squared deviations of float32 numbers of this mean may add up to by rounding alone."""
        return self.images * (4 * torch.finfo(torch.float32).eps * mean).square()


def _flips(vectors: Tensor, means: Tensor, lens: Lens) -> Tensor:
    """(components, features): images for which another text of the feature becomes the nearest."""
    texts = lens.texts.to(vectors)
    before = torch.einsum("nkd,ktd->nkt", vectors, texts)[:, lens.direct].sum(1) + lens.text_offset.to(vectors)
    after = before[:, None] - torch.einsum("nkd,ktd->nkt", vectors - means, texts)  # (images, components, T)
    changed = _choices(after, lens.text_counts) != _choices(before, lens.text_counts)[:, None]
    return changed.sum(0)


def _choices(logits: Tensor, counts: Sequence[int]) -> Tensor:
    """(..., T) -> (..., features): the place of the greatest logit of each feature."""
    return torch.stack([own.argmax(-1) for own in logits.split(tuple(counts), dim=-1)], dim=-1)


def _toml(content: bytes, origin: str) -> dict[str, Any]:
    try:
        table = tomllib.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise BadConfig(
            f"{origin}: not UTF-8 text (byte {error.start} is {content[error.start]:#04x}). "
            "A set of features is a TOML file: save it as UTF-8."
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise BadConfig(
            f"{origin}: not TOML ({error}). Expected [features] and lines such as colour = [...]."
        ) from error
    if not table:
        raise BadConfig(f"{origin}: empty. Expected a TOML file with a table [features].")
    return table


def _groups(value: Any, where: str) -> Answers:
    if not isinstance(value, dict):
        raise BadConfig(f"{where}: expected a table of lists of texts, found {_short(value)}.")
    return {_feature(name, where): _texts(texts, f"{where} {_short(name)}") for name, texts in value.items()}


def _feature(name: str, where: str) -> str:
    if not re.fullmatch(r"\w[\w -]{0,39}", name):
        raise BadConfig(
            f"{where}: {_short(name)} is no name of a feature: expected at most 40 letters, digits, spaces, - or _, "
            "since it becomes a link."
        )
    return name


def _texts(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) < 2:
        count = f"{len(value)} texts" if isinstance(value, list) else _short(value)
        raise BadConfig(f'{where}: {count}; expected a list of at least two texts, such as ["red", "green"].')
    texts = tuple(_text(one, where) for one in value)
    seen: set[str] = set()
    for text in texts:
        folded = " ".join(text.casefold().split())
        if not folded:
            raise BadConfig(f"{where}: an empty text; write what the picture shows, or remove it.")
        if folded in seen:
            raise BadConfig(
                f"{where}: {_short(text)} stands twice (upper and lower case are alike to a CLIP); remove one."
            )
        seen.add(folded)
    return texts


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise BadConfig(f"{where}: {_short(value)} is no text; put it in quotes.")
    if len(value) > LONGEST:
        raise BadConfig(f"{where}: {len(value)} characters ({value[:40]!r} ...), at most {LONGEST}. Shorten it.")
    if value and not value.isprintable():
        raise BadConfig(f"{where}: {_short(value)} holds a control character; one plain text in quotes.")
    return value.strip()


def _short(value: Any) -> str:
    return repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:40]} ..."
