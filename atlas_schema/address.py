"""Addresses and slugs: the permanent names of models, neurons and heads.

A neuron is `{slug}/mlp/{layer}/{unit}`, a head is `{slug}/head/{layer}/{head}`; layers count FFN sites (or
attention sites) from the input, from 0, in the order of execution. The same text is the id in rows, links, on
the command line and in citations, so there is one spelling of each address and no other is accepted:
`str(parse_address(text)) == text`.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from atlas_schema.errors import AtlasError, BadAddress, BadConfig, nearest

KINDS = ("mlp", "head")
SOURCES = ("timm", "open_clip", "zoo")
_SLUG = re.compile(r"[a-z0-9]+(-{1,2}[a-z0-9]+)*")
_NUMBER = re.compile(r"0|[1-9][0-9]*", re.ASCII)
_EXPECTED = "expected {slug}/mlp/{layer}/{unit} or {slug}/head/{layer}/{head}, for example zoo-vit/mlp/3/17"
# Tables keep layers as int16 and units as int32.
_MOST_LAYERS, _MOST_UNITS = 2**15 - 1, 2**31 - 1


@dataclass(frozen=True, order=True)
class NeuronAddress:
    """One hidden unit of an FFN site, after the activation function; `layer` and `unit` count from 0."""

    slug: str
    layer: int
    unit: int

    def __post_init__(self) -> None:
        _check(str(self), self.slug, self.layer, self.unit)

    def __str__(self) -> str:
        return f"{self.slug}/mlp/{self.layer}/{self.unit}"

    @classmethod
    def parse(cls, text: str) -> NeuronAddress:
        """The neuron that `text` names; BadAddress where it names something else or nothing."""
        address = parse_address(text)
        if not isinstance(address, cls):
            raise BadAddress(f"{text}: this is a head; a neuron was expected: {{slug}}/mlp/{{layer}}/{{unit}}")
        return address


@dataclass(frozen=True, order=True)
class HeadAddress:
    """One attention head; `layer` counts attention sites and `head` the heads of one, both from 0."""

    slug: str
    layer: int
    head: int

    def __post_init__(self) -> None:
        _check(str(self), self.slug, self.layer, self.head)

    def __str__(self) -> str:
        return f"{self.slug}/head/{self.layer}/{self.head}"

    @classmethod
    def parse(cls, text: str) -> HeadAddress:
        """The head that `text` names; BadAddress where it names something else or nothing."""
        address = parse_address(text)
        if not isinstance(address, cls):
            raise BadAddress(f"{text}: this is a neuron; a head was expected: {{slug}}/head/{{layer}}/{{head}}")
        return address


def parse_address(text: str) -> NeuronAddress | HeadAddress:
    """The neuron or head that `text` names; else BadAddress, with the spelling that was probably meant."""
    *slug, kind, layer, index = text.split("/") if text.count("/") >= 3 else ["", "", "", ""]
    name = "/".join(slug)
    if kind in KINDS and _SLUG.fullmatch(name) and _NUMBER.fullmatch(layer) and _NUMBER.fullmatch(index):
        make = NeuronAddress if kind == "mlp" else HeadAddress
        return make(name, int(layer), int(index))
    hint = _suggestion(text)
    raise BadAddress(f"{text!r} is not an address: {_EXPECTED}." + (f" Did you mean {hint}?" if hint else ""))


def slug_of(model_id: str) -> str:
    """The slug of a model id: its name, then `--` and its tag; `clip-` or `zoo-` in front for those sources.

    >>> slug_of("timm/deit_tiny_patch16_224.fb_in1k"), slug_of("open_clip/ViT-B-32/openai")
    ('deit-tiny-patch16-224--fb-in1k', 'clip-vit-b-32--openai')
    """
    source, _, rest = model_id.partition("/")
    if source not in SOURCES or not rest:
        raise BadConfig(
            f"{model_id!r} is not a model id: expected timm/NAME.TAG, open_clip/NAME/TAG or zoo/NAME,"
            " for example timm/deit_tiny_patch16_224.fb_in1k"
        )
    name, _, tag = rest.partition("/" if source == "open_clip" else ".")
    prefix = {"timm": "", "open_clip": "clip-", "zoo": "zoo-"}[source]
    return prefix + _words(name) + (f"--{_words(tag)}" if tag else "")


def slugify(name: str) -> str:
    """A slug made of a user's own name (`--as`): a-z, digits and hyphens. A slug stays as it is."""
    return name if _SLUG.fullmatch(name) else _words(name)


def is_slug(text: str) -> bool:
    """Whether `text` is spelt as a slug: lower case letters and digits, joined by one or two hyphens."""
    return _SLUG.fullmatch(text) is not None


def _words(name: str) -> str:
    """Letters and digits in lower case with single hyphens between; accents go, anything else is a hyphen."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
    if not slug:
        raise BadAddress(f"{name!r}: no slug can be made of it; use at least one letter (a-z) or digit")
    return slug


def _check(text: str, slug: str, layer: int, index: int) -> None:
    if not _SLUG.fullmatch(slug):
        raise BadAddress(f"{text!r} is not an address: {slug!r} is not a slug (a-z, 0-9, hyphens)")
    if not (0 <= layer <= _MOST_LAYERS and 0 <= index <= _MOST_UNITS):
        raise BadAddress(f"{text!r} is not an address: layers and units count from 0 and are below 2^15 and 2^31")


def _suggestion(text: str) -> str:
    """The address that `text` was probably meant to be, or nothing."""
    pieces = text.strip().strip("#/").split("/")
    if len(pieces) < 4 or not all(p.strip().isdecimal() for p in pieces[-2:]):
        return ""
    *model, kind, layer, index = pieces
    kinds = nearest(kind, [*KINDS, "ffn", "neuron", "attn"], 1)
    kind = {"ffn": "mlp", "neuron": "mlp", "attn": "head"}.get(kinds[0], kinds[0]) if kinds else "mlp"
    try:
        slug = slug_of("/".join(model)) if model[0] in SOURCES else slugify("/".join(model))
        return str(parse_address(f"{slug}/{kind}/{int(layer)}/{int(index)}"))
    except AtlasError:
        return ""
