"""The attention heads of one model -> the files of its folder in the site.

    d/{slug}/heads-HASH/heads.json.gz               all heads: figures, label, feature scores
    d/{slug}/heads-HASH/00003.json.gz               heads of an attention layer: texts, features, images, neurons read
    d/{slug}/heads-HASH/reads/00003-00000.json.gz   which heads read the neurons of an FFN layer
    d/{slug}/heads-HASH/images/00003-00001.images   the probe images that a head shows, untouched, for one request

Tables in a file are columns, with a value that all rows share written once; `unit` is the head, or the neuron.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

from atlas_schema.head_tables import HEAD_EXAMPLES, HEAD_FEATURES, HEAD_READS, HEAD_TEXTS, HEADS
from atlas_schema.read import Atlas
from site_builder.head_tables import READ_PACK, read_packs
from site_builder.maps import signed_texts
from site_builder.outline import Neuron
from site_builder.packs import columnar, dump, rounded
from site_builder.reading import lists_of
from site_builder.sprites import told_bundle

#: Neurons that a head's page names: those that it reads most.
NEURONS_READ = 12
#: Digits of a figure: a page shows three.
DIGITS = 4
#: Figures of a component and a feature, beside its score.
FEATURE_FIGURES = ("variance_share", "selectivity", "ablation_effect", "ablation_margin", "ablation_flips")
#: Columns of head_reads that the files are made of.
READ_COLUMNS = ("slug", "layer", "unit", "reader_layer", "reader_head", "share", "level")
Columns = dict[str, list[Any]]
#: (probe set, index) of an image -> what a page says of it, and its thumbnail.
Images = Mapping[tuple[str, int], tuple[dict[str, Any], bytes]]


@dataclass(frozen=True)
class HeadRows:
    """The head tables of one model, as lists by column; tables that the atlas lacks have no rows."""

    heads: Columns
    texts: Columns
    features: Columns
    examples: Columns
    reads: Columns

    @classmethod
    def of(cls, atlas: Atlas, slug: str) -> HeadRows:
        """All tables: a row of head_reads for some readers of every neuron."""
        own = cls.short(atlas, slug)
        examples, reads = atlas.rows(HEAD_EXAMPLES, slug), atlas.rows(HEAD_READS, slug, READ_COLUMNS)
        return replace(own, examples=lists_of(examples), reads=lists_of(reads))

    @classmethod
    def short(cls, atlas: Atlas, slug: str) -> HeadRows:
        """Those of a few rows a head: no examples, and no neurons that heads read."""
        heads, texts, features = (lists_of(atlas.rows(table, slug)) for table in (HEADS, HEAD_TEXTS, HEAD_FEATURES))
        return cls(heads, texts, features, {}, {})

    def counts(self) -> list[int]:
        """Heads of each attention layer, from 0; 0 for a layer without any."""
        most = dict.fromkeys(range(max(self.heads["layer"]) + 1), 0)
        for layer, head in zip(self.heads["layer"], self.heads["head"], strict=True):
            most[layer] = max(most[layer], head + 1)
        return [most[layer] for layer in sorted(most)]


def head_files(
    rows: HeadRows, neuron_labels: Mapping[Neuron, str], named: Set[str], images: Images | None = None
) -> dict[str, bytes]:
    """File name -> gzip JSON. neuron_labels: of the atlas's neurons; named: probe sets whose images it lists; images:
    all that the examples name, where they come with thumbnails.
    """
    files = {"heads.json.gz": dump(_all_heads(rows))}
    slots = _slots(rows.examples) if images else {}
    for layer in sorted(set(rows.heads["layer"])):
        files[f"{layer:05d}.json.gz"] = dump(_layer(rows, layer, neuron_labels, named, slots))
    return files | _readers(rows) | _bundles(slots, images or {})


#: (layer, head) -> the images of its examples, (probe set, index), each once, with their places in its bundle.
Slots = dict[tuple[int, int], dict[tuple[str, int], int]]


def _slots(examples: Columns) -> Slots:
    found: Slots = {}
    names = ("layer", "head", "probe_set", "image_index")
    for layer, head, probe_set, index in zip(*(examples[name] for name in names), strict=True):
        own = found.setdefault((layer, head), {})
        own.setdefault((probe_set, index), len(own))
    return found


def _bundles(slots: Slots, images: Images) -> dict[str, bytes]:
    return {
        f"images/{layer:05d}-{head:05d}.images": told_bundle(*zip(*(images[one] for one in own), strict=True))
        for (layer, head), own in slots.items()
    }


def _all_heads(rows: HeadRows) -> dict[str, Any]:
    """Every column but those that the address says; the text that explains most; scores by feature, head by head."""
    heads = {name: values for name, values in rows.heads.items() if name not in ("address", "slug", "head")}
    heads["unit"] = rows.heads["head"]
    place = {key: at for at, key in enumerate(zip(heads["layer"], heads["unit"], strict=True))}
    heads |= {"text": [None] * len(place), "text_explained": [None] * len(place)}
    texts = rows.texts
    for at, explained in enumerate(texts["explained"]):
        own = place.get((texts["layer"][at], texts["head"][at]))
        if own is not None and explained > (heads["text_explained"][own] or 0):
            heads["text"][own], heads["text_explained"][own] = texts["text"][at], explained
    scores: dict[str, list[float | None]] = {}
    features = rows.features
    for at, feature in enumerate(features["feature"]):
        key = features["layer"][at], features["head"][at]
        if features["kind"][at] == "head" and key in place:
            scores.setdefault(feature, [None] * len(place))[place[key]] = features["score"][at]
    return rounded({**columnar(heads), "scores": {name: scores[name] for name in sorted(scores)}}, DIGITS)


def _layer(
    rows: HeadRows, layer: int, neuron_labels: Mapping[Neuron, str], named: Set[str], slots: Slots
) -> dict[str, Any]:
    texts = _renamed(
        rows.texts, {"head": "unit"}, ("text", "explained", "cumulative", "deviation"), _at(rows.texts, layer)
    )
    heads_only = [at for at in _at(rows.features, layer) if rows.features["kind"][at] == "head"]
    kept = ("feature", "score", "rank", "feature_set", *FEATURE_FIGURES)
    features = _renamed(rows.features, {"head": "unit"}, kept, heads_only)
    return {
        "texts": columnar(rounded(texts, DIGITS)),
        "features": columnar(rounded(features, DIGITS)),
        "examples": columnar(_examples(rows.examples, _at(rows.examples, layer), named, slots)),
        "neurons": columnar(rounded(_neurons_read(rows, layer, neuron_labels), DIGITS)),
    }


def _at(columns: Columns, layer: int) -> list[int]:
    return [at for at, own in enumerate(columns["layer"]) if own == layer]


def _renamed(columns: Columns, names: Mapping[str, str], kept: Sequence[str], places: Sequence[int]) -> Columns:
    """The rows at `places`: columns of `names` under their new name, those `kept` under their own."""
    wanted = {**names, **{name: name for name in kept}}
    return {new: [columns[name][at] for at in places] for name, new in wanted.items()}


def _examples(columns: Columns, places: Sequence[int], named: Set[str], slots: Slots) -> Columns:
    names = {"head": "unit", "image_index": "image", "probe_set": "probe"}
    names |= {"map_height": "rows", "map_width": "columns", "map_scale": "scale"}
    made = _renamed(columns, names, ("direction", "projection", "elsewhere"), places)
    made |= {name: rounded(made[name], DIGITS) for name in ("projection", "elsewhere", "scale")}
    made["map"] = signed_texts([columns["map"][at] for at in places], made["rows"], made["columns"])
    if not set(made["probe"]) <= named:
        made["name"] = [columns["image"][at] for at in places]
    if slots:
        keys = zip(*(columns[name] for name in ("layer", "head", "probe_set", "image_index")), strict=True)
        slot = [slots[layer, head][probe_set, index] for layer, head, probe_set, index in keys]
        made["slot"] = [slot[at] for at in places]
    return made


def _neurons_read(rows: HeadRows, layer: int, neuron_labels: Mapping[Neuron, str]) -> Columns:
    """Of each head of an attention layer the neurons that it reads most, as far as head_reads names it."""
    reads, made = rows.reads, Columns(unit=[], layer=[], neuron=[], share=[], label=[])
    own = [at for at, reader in enumerate(reads["reader_layer"]) if reader == layer]
    by_head: dict[int, list[int]] = {}
    for at in own:
        by_head.setdefault(reads["reader_head"][at], []).append(at)
    for head in sorted(by_head):
        for at in sorted(by_head[head], key=lambda at: -reads["share"][at])[:NEURONS_READ]:
            made["unit"].append(head)
            made["layer"].append(reads["layer"][at])
            made["neuron"].append(reads["unit"][at])
            made["share"].append(reads["share"][at])
            made["label"].append(neuron_labels.get((reads["slug"][at], reads["layer"][at], reads["unit"][at])))
    return made


def _readers(rows: HeadRows) -> dict[str, bytes]:
    """Files of head_reads by FFN layer: heads that read a neuron, the one that reads most first, with their labels."""
    reads, heads = rows.reads, rows.heads
    label = dict(zip(zip(heads["layer"], heads["head"], strict=True), heads["label"], strict=True))
    counts = read_packs(reads["layer"], reads["unit"])
    places: dict[tuple[int, int], list[int]] = {
        (layer, number): [] for layer, count in enumerate(counts) for number in range(count)
    }
    for at, (layer, unit) in enumerate(zip(reads["layer"], reads["unit"], strict=True)):
        places[layer, unit // READ_PACK].append(at)
    files = {}
    for (layer, number), own in sorted(places.items()):
        columns = _renamed(
            reads, {"unit": "unit", "reader_layer": "layer", "reader_head": "head"}, ("share", "level"), own
        )
        columns["label"] = [label.get(key) for key in zip(columns["layer"], columns["head"], strict=True)]
        files[f"reads/{layer:05d}-{number:05d}.json.gz"] = dump(columnar(rounded(columns, DIGITS)))
    return files
