"""From what the stages of heads committed to the rows of the five tables of a model, and from those to shards."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from atlas_schema.columns import Table
from atlas_schema.head_tables import HEAD_EXAMPLES, HEAD_FEATURES, HEAD_READS, HEAD_TABLES, HEAD_TEXTS, HEADS
from atlas_schema.partials import read_or_remove
from atlas_schema.parts import WorkUnit
from atlas_schema.rows import rows_to_table
from atlas_schema.shards import write_rows
from atlas_schema.store import Store
from jobs.head_partials import alignment_at, embedded, levels_of, root
from jobs.tasks import Row, Surroundings, batch_of

if TYPE_CHECKING:
    from pipeline.decompose.second_pass import SecondPass
    from pipeline.decompose.spans import Spans

LABELLED = 0.1  # share of a head's variance that a text must explain to be its label
CLASSES = 3  # named at each end of a head's first axis
READ_IMAGES = 64  # on which neurons are followed through the values of heads


def head_tables(at: Surroundings, unit: WorkUnit) -> dict[str, np.ndarray]:
    """By table, its rows as the bytes of an Arrow stream: what the last partial of a model holds."""
    told = _Told(at, unit.slug)
    made = {
        HEADS: list(told.heads()),
        HEAD_TEXTS: list(told.texts()),
        HEAD_FEATURES: list(told.features()),
        HEAD_EXAMPLES: list(told.examples()),
        HEAD_READS: list(told.reads()),
    }
    return {table.name: _encoded(table, rows) for table, rows in made.items()}


def _encoded(table: Table, rows: Sequence[Row]) -> np.ndarray:
    ordered = sorted(rows, key=lambda row: tuple(row[name] for name in table.key))
    data = rows_to_table(table.columns, table.schema(), ordered)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, data.schema) as stream:
        stream.write_table(data)
    return np.frombuffer(sink.getvalue(), dtype=np.uint8)


def write_heads(store: Store, unit: WorkUnit, provenance: Mapping[str, str]) -> None:
    """Write a model's five tables from its last partial, which is read whole."""
    for name, encoded in read_or_remove(store, unit, list(HEAD_TABLES)).items():
        rows = pa.ipc.open_stream(pa.py_buffer(encoded.tobytes())).read_all().to_pylist()
        facts = {**provenance, "fingerprint": unit.fingerprint, "settings": unit.recipe_hash}
        write_rows(store, name, unit.slug, rows, provenance=facts)


def _number(value: Any) -> float | None:
    return None if math.isnan(float(value)) else float(value)


class _Told:
    """What the stages before said of a model, read once, and the rows that follow."""

    def __init__(self, at: Surroundings, slug: str) -> None:
        from pipeline.decompose.components import components_of
        from pipeline.decompose.features import Lens
        from pipeline.decompose.moments import ContributionMoments
        from pipeline.decompose.second_pass import SecondPass, of_features
        from pipeline.decompose.spans import Spans

        self.at, self.slug, self.measuring = at, slug, at.measuring
        self.model = at.model(slug)
        arrays = at.read_arrays(root(at, "decompose", slug))
        through = arrays.pop("through")
        self.levels = levels_of(through)
        self.moments = ContributionMoments.of(arrays)
        self.components = components_of(self.model)
        self.spans: Spans = Spans.of(at.read_arrays(root(at, "spans", slug)))
        self.second: SecondPass = SecondPass.of(at.read_arrays(root(at, "project", slug)))
        self.alignment = alignment_at(at, slug)
        self.features_of = self.measuring.texts_of_heads.features
        lens = Lens.of(of_features(self.features_of, embedded(at)), self.alignment, self.levels)
        self.scored = self.second.features.finalize(lens)

    def _place(self, place: int) -> Row:
        one = self.components[place]
        return {
            "address": f"{self.slug}/head/{one.layer}/{one.head}",
            "slug": self.slug,
            "layer": one.layer,
            "head": one.head,
        }

    def heads(self) -> Iterator[Row]:
        moments, ablation, spans = self.moments, self.second.ablation, self.spans
        images = float(moments.images)
        share = moments.variance_share()
        effect, error = ablation.effect()
        answered = bool(ablation.judged > 0)
        by, texts = self.second.answered_by, self.measuring.texts_of_heads.pool
        for place in range(moments.heads):
            label, explains = self._label(place)
            feature, score = self._best_feature(place)
            yield self._place(place) | {
                "level": self.levels[place].value,
                "probe_set": self.measuring.probe_set.identity,
                "probe_images": int(images),
                "norm": float(moments.norm[place]) / images,
                "norm_share": float(moments.ratio[place]) / images,
                "variance_share": self._if_direct(place, float(share[place])),
                "spectrum": [float(one) for one in spans.spectrum[place] if one > 0],
                "dimensions": float(spans.dimensions[place]),
                "axis_classes": self._classes(place),
                "ablation_effect": float(effect[place]) if answered else None,
                "ablation_se": float(error[place]) if answered else None,
                "accuracy": ablation.accuracy() if answered else None,
                "answered_by": by if answered else None,
                "ablation_change": float(ablation.change[place] / ablation.images),
                "label": label,
                "texts_explain": min(explains, 1.0),
                "text_pool": texts.title,
                "embedder": self.measuring.embedder_or_fail.slug,
                "alignment_cosine": float(np.clip(self.alignment.cosine, -1, 1)),
                "alignment_chance": _number(self.alignment.cosine_chance),
                "alignment_accuracy": self.alignment.accuracy,
                "alignment_keeps": float(spans.keeps[place]),
                "feature": feature,
                "feature_score": score,
            }

    def _classes(self, head: int) -> list[Row] | None:
        """The classes at the high end of the head's first axis, then those at the low end."""
        names, sums = self.measuring.membership.classes, self.second.classes
        seen = [place for place in range(len(names)) if float(sums.images[place])]
        if not seen:
            return None
        means = sums.finalize()[:, head]
        ranked = sorted(seen, key=lambda place: -float(means[place]))
        shown = ranked if len(ranked) <= 2 * CLASSES else [*ranked[:CLASSES], *ranked[-CLASSES:]]
        return [{"name": names[one], "mean": float(means[one]), "images": int(sums.images[one])} for one in shown]

    def _if_direct(self, place: int, value: float) -> float | None:
        return value if self.levels[place].value == "direct" else None

    def _label(self, head: int) -> tuple[str | None, float]:
        """The text that explains most of the head's variance, if it is enough; and what all texts explain."""
        explained = self.spans.explained[head]
        best = int(explained.argmax())
        named = float(explained[best]) >= LABELLED and int(self.spans.text[head, best]) >= 0
        text = self.measuring.texts_of_heads.pool.texts[int(self.spans.text[head, best])] if named else None
        return text, float(explained.sum())

    def _best_feature(self, place: int) -> tuple[str | None, float | None]:
        best = int(self.scored["score"][place].argmax())
        score = float(self.scored["score"][place, best])
        return (tuple(self.features_of.features)[best], score) if score > 0 else (None, None)

    def texts(self) -> Iterator[Row]:
        pool = self.measuring.texts_of_heads.pool.texts
        for place in range(self.moments.heads):
            cumulative = 0.0
            for rank, text in enumerate(self.spans.text[place].tolist()):
                if text < 0:
                    break
                explained = float(self.spans.explained[place, rank])
                cumulative += explained
                yield self._place(place) | {
                    "rank": rank,
                    "text": pool[text],
                    "explained": min(max(explained, 0.0), 1.0),
                    "cumulative": min(max(cumulative, 0.0), 1.0),
                    "deviation": float(self.spans.deviation[place, rank]),
                }

    def features(self) -> Iterator[Row]:
        scored, groups = self.scored, self.second.groups
        effect, margin = self.second.ablation.group_effect(), self.second.ablation.margin_effect()
        for column, feature in enumerate(self.features_of.features):
            group = groups.index(feature) if feature in groups else None
            for rank, place in enumerate(self._by_score(scored["score"][:, column])):
                one = self.components[place]
                yield {
                    "slug": self.slug,
                    "component": one.name,
                    "kind": one.kind,
                    "layer": one.layer,
                    "head": one.head if one.kind == "head" else None,
                    "level": self.levels[place].value,
                    "feature": feature,
                    "score": float(scored["score"][place, column]),
                    "rank": rank,
                    "variance_share": _number(scored["variance_share"][place, column]),
                    "selectivity": min(1.0, float(scored["selectivity"][place, column])),
                    "ablation_effect": None if group is None else _number(effect[place, group]),
                    "ablation_margin": None if group is None else _number(margin[place, group]),
                    "ablation_flips": float(scored["flips"][place, column]),
                    "feature_set": self.features_of.title,
                }

    def _by_score(self, score: Any) -> list[int]:
        places = [place for place, one in enumerate(self.components) if one.kind in ("head", "ffn")]
        return sorted(places, key=lambda place: -float(score[place]))

    def examples(self) -> Iterator[Row]:
        """The strongest images along each direction, with where in them."""
        from pipeline.decompose.spans import LOOKED_ALONG

        top, images = self.second.top, self.measuring.probe_set.images
        wanted = [
            (place, direction, rank)
            for place in range(self.moments.heads)
            for direction in range(len(LOOKED_ALONG))
            if bool(self.spans.directions[place, direction].any())
            for rank in range(len(top.value))
            if int(top.image[rank, place, direction]) < len(images)
        ]
        for (place, direction, rank), (mapped, elsewhere) in zip(wanted, self._mapped(wanted), strict=True):
            index = int(top.image[rank, place, direction])
            height, width = mapped.shape
            scale = float(np.abs(mapped).max())
            steps = np.round(mapped / (scale or 1.0) * 127) + 128
            yield self._place(place) | {
                "direction": LOOKED_ALONG[direction],
                "rank": rank,
                "image": images[index].id,
                "image_index": index,
                "probe_set": self.measuring.probe_set.identity,
                "projection": float(top.value[rank, place, direction]),
                "map": steps.astype(np.uint8).tobytes(),
                "map_height": height,
                "map_width": width,
                "map_scale": scale,
                "elsewhere": elsewhere,
            }

    def _mapped(self, wanted: Sequence[tuple[int, int, int]]) -> list[tuple[np.ndarray, float]]:
        """The map and the rest of each (head, direction, rank), computed in batches of one level."""
        import torch

        from pipeline.decompose.maps import example_maps
        from pipeline.images.probe_set import batches

        found: dict[int, tuple[np.ndarray, float]] = {}
        for level in dict.fromkeys(self.levels):
            own = [i for i, (place, _, _) in enumerate(wanted) if self.levels[place] == level]
            shown = [int(self.second.top.image[rank, place, way]) for place, way, rank in (wanted[i] for i in own)]
            done = 0
            for _, pixels in batches(self.measuring.probe_set, shown, self.model.description, batch_of(self.at)):
                some = own[done : done + len(pixels)]
                sites = torch.tensor([self.components[wanted[i][0]].layer for i in some])
                heads = torch.tensor([self.components[wanted[i][0]].head for i in some])
                along = torch.stack([self.spans.directions[wanted[i][0], wanted[i][1]] for i in some])
                x = self.model.normalise(pixels.to(self.model.device))
                maps, rest = example_maps(self.model, x, sites, heads, along.to(x), level, certify=done == 0)
                pairs = zip(some, maps, rest, strict=True)
                found |= {i: (one.float().cpu().numpy(), float(other)) for i, one, other in pairs}
                done += len(some)
                self.at.step()
        return [found[i] for i in range(len(wanted))]

    def reads(self) -> Iterator[Row]:
        """The heads that read each neuron most."""
        from pipeline.decompose.reads import reads
        from pipeline.images.probe_set import batches

        model = self.model
        shown = self.measuring.panel[:READ_IMAGES]
        pixels = (one for _, one in batches(self.measuring.probe_set, shown, model.description, batch_of(self.at)))
        source = (model.normalise(one.to(model.device)) for one in pixels)
        levels = self.levels[: self.moments.heads]
        read = reads(model, self._stepping(source), self.spans.directions[:, 0], levels)
        for one in read.readers(model, levels):
            yield {
                "address": f"{self.slug}/mlp/{one.layer}/{one.unit}",
                "slug": self.slug,
                "layer": one.layer,
                "unit": one.unit,
                "rank": one.rank,
                "reader": f"{self.slug}/head/{one.reader_layer}/{one.reader_head}",
                "reader_layer": one.reader_layer,
                "reader_head": one.reader_head,
                "share": one.share,
                "level": one.level.value,
            }

    def _stepping(self, source: Iterable[Any]) -> Iterator[Any]:
        for one in source:
            self.at.step()
            yield one
