"""The dataset card: README.md with the YAML that `load_dataset` and the Hub's viewer need, and a datasheet.

The prose is in card.md; everything else is read from the tables' declarations and from what the atlas holds. What takes
reading every shard is remembered beside the parts, by the digests of these: where nothing changed, tails are read.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.resources import files
from string import Template
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from atlas_schema.citing import bibtex
from atlas_schema.columns import SCHEMA_VERSION, Column, Table, feature
from atlas_schema.errors import NothingThere
from atlas_schema.parquet import digest_of, read_footer
from atlas_schema.parquet_columns import read_columns
from atlas_schema.read import Atlas
from atlas_schema.shards import shard_path
from atlas_schema.store import Store
from atlas_schema.tables import INVERSION_READINGS, INVERSIONS, NEURONS, PROBE_IMAGES, RUNS, TABLES

#: Licences of weights that ask for no more than the dataset's own.
_FREE = {"apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc-by-4.0", "cc0-1.0"}
#: The Hub's size categories: rows below the number.
_SIZES = {
    1_000: "n<1K",
    10_000: "1K<n<10K",
    100_000: "10K<n<100K",
    1_000_000: "100K<n<1M",
    10_000_000: "1M<n<10M",
}
#: Columns of which the card gives the median.
_MEDIANS = ("activation_start", "activation", "natural_mean", "image_steps")

#: What was read from shards for the last card: not in the dataset, and no loss where it is gone.
FIGURES = ".atlas/figures.json"
CARD = "README.md"
_INVERTED = (INVERSIONS, INVERSION_READINGS)
_HOLDS = 0.9  # share of natural changes under which an inversion's class still comes first, to say that it holds
_AT_ONCE = 8  # tails read: a remote store answers each after some time

Row = Mapping[str, Any]


def write_card(store: Store) -> None:
    """Write README.md from what the atlas holds now. Raises NothingThere where it holds no model."""
    known = _Known(store)
    text = card_text(store, known).encode()
    known.keep()
    if _held(store, CARD) != text:
        store.replace(CARD, text)


def _held(store: Store, path: str) -> bytes:
    with contextlib.suppress(FileNotFoundError):
        return store.read(path)
    return b""


class _Known:
    """What was read from shards before, by name and by the digests of the shards: read again where one changed."""

    def __init__(self, store: Store) -> None:
        self.store, self.now = store, dict[str, Any]()
        self.before: dict[str, Any] = {}
        with contextlib.suppress(ValueError):  # a damaged file knows nothing
            found = json.loads(_held(store, FIGURES) or b"{}")
            self.before = found if isinstance(found, dict) else {}

    def value(self, name: str, paths: Sequence[str], make: Callable[[], Any]) -> Any:
        """What `make` reads from the shards `paths`, as JSON keeps it. ShardCorrupt where a tail is damaged."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            digests = pool.map(lambda path: digest_of(read_footer(self.store, path)), paths)
            of = hashlib.sha256("\n".join([*paths, *digests, *_MEDIANS]).encode()).hexdigest()
        if self.before.get(name, {}).get("of") != of:
            self.now[name] = {"of": of, "value": make()}
        else:
            self.now[name] = self.before[name]
        return self.now[name]["value"]

    def keep(self) -> None:
        """Remember it for the next card."""
        if self.now != self.before:
            self.store.replace(FIGURES, json.dumps(self.now, indent=1).encode())


def card_text(store: Store, known: _Known | None = None) -> str:
    """The card: YAML between two `---` lines, then Markdown."""
    atlas, known = Atlas(store), known or _Known(store)
    models = atlas.models()
    if not models:
        raise NothingThere(f"{store.url}: holds no model to write a card about; `neuron-atlas run` makes one")
    figures = {model["slug"]: _figures(atlas, known, model["slug"]) for model in models}
    shown, sizes = _shown_images(atlas, known), {name: store.sizes(name) for name in TABLES}
    tables = held_tables(store, sizes)
    described = sum(figure["neurons"] for figure in figures.values())
    return Template(files("atlas_schema").joinpath("card.md").read_text()).substitute(
        front_matter=_front_matter(models, described, tables, sizes, shown, _licence_file(store)),
        neurons=f"{described:,}",
        models="one model" if len(models) == 1 else f"{len(models)} models",
        families=", ".join(sorted({plain(model["family"]) for model in models})),
        model_table=_model_table(models),
        slug=models[0]["slug"],
        address=_an_address(figures, models),
        schema_version=SCHEMA_VERSION,
        table_sizes=_table_sizes(tables, sizes),
        columns="\n\n".join(f"### {t.name}\n\nA row is {t.row}.\n\n{column_list(t)}" for t in TABLES.values()),
        recipes=_recipes(models),
        weights=_weights(models),
        evidence=_evidence(models),
        results=_results(models, figures),
        heads=_heads(atlas, models),
        inversions=_inversions(atlas, known, models),
        citation=bibtex("PATH-OR-URL"),
        image_licences=_image_licences(shown),
        licences=_licences(models),
    )


def column_list(table: Table) -> str:
    """The columns as a Markdown table: type, meaning, unit, bounds and why a cell may be empty."""
    rows = [(f"`{c.name}`", f"`{type_name(c.type)}`", plain(c.means) + _notes(c)) for c in table.columns]
    return markdown_table(("column", "type", "meaning"), rows)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; cells are taken as Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def plain(text: str) -> str:
    """Text that Markdown and HTML must take literally: names and licences come from outside."""
    return re.sub(r"([\\`*_\[\]<>|#{}])", r"\\\1", str(text)).replace("\n", " ")


def type_name(arrow: pa.DataType) -> str:
    """An Arrow type in few words: `list of {step: int16}`, `image`."""
    return _feature_name(feature(arrow))


def _feature_name(described: Row) -> str:
    kind = described.get("_type")
    if kind == "List":
        return f"list of {_feature_name(described['feature'])}"
    if kind == "Image":
        return "image"
    if kind == "Value":
        return str(described["dtype"])
    return "{" + ", ".join(f"{name}: {_feature_name(inner)}" for name, inner in described.items()) + "}"


def _notes(column: Column) -> str:
    notes = [f"unit: {column.unit}"] if column.unit else []
    if column.bounds:
        low, high = column.bounds
        notes.append(f"{low:g} to {high:g}" if high != float("inf") else f"at least {low:g}")
    notes += [f"one of {', '.join(column.choices)}"] if column.choices else []
    notes += [f"empty: {column.absent}"] if column.absent else []
    notes += ["differs between equal runs"] if column.volatile else []
    return f" ({plain('; '.join(notes))})" if notes else ""


def held_tables(store: Store, sizes: Mapping[str, Mapping[str, int]] | None = None) -> list[Table]:
    """The tables that have rows: a config without any would break `load_dataset` for all.

    sizes: of the files of each table, where they are known already.
    """
    sizes = sizes or {name: store.sizes(name) for name in TABLES}
    held = [table for name, table in TABLES.items() if _shards(sizes[name])]
    images = sum(read_footer(store, path).num_rows for path in _shards(sizes[PROBE_IMAGES.name]))
    return [table for table in held if table is not PROBE_IMAGES or images]


def _shards(sizes: Mapping[str, int]) -> list[str]:
    return [path for path in sizes if path.endswith(".parquet")]


def _bytes_of(sizes: Mapping[str, int]) -> int:
    return sum(sizes[path] for path in _shards(sizes))


def limits() -> list[str]:
    """What not to conclude from an atlas, a paragraph each, as every card says it."""
    section = files("atlas_schema").joinpath("card.md").read_text().partition("\n## Limits\n")[2].partition("\n## ")[0]
    return [" ".join(one.split()) for one in section.strip().removeprefix("- ").split("\n- ")]


def own_licence(licence: str | None) -> bool:
    """Whether a licence of weights or images asks for no more than the dataset's own."""
    return (licence or "").lower() in _FREE


def shown_licences(atlas: Atlas) -> list[str | None]:
    """Licences of the probe images whose thumbnails are in the atlas, each once; None: not stated."""
    return _shown_images(atlas, _Known(atlas.store))


def _licence_file(store: Store) -> str:
    """The file beside the card that says the licences in full; "" where there is none."""
    return next((name for name in ("LICENSE", "LICENSE.md") if store.exists(name)), "")


def _front_matter(
    models: Sequence[Row],
    neurons: int,
    tables: Sequence[Table],
    sizes: Mapping[str, Mapping[str, int]],
    shown: Sequence[str | None],
    licence_file: str,
) -> str:
    """The YAML that the Hub and `datasets` read.

    The bytes of each table stand in it: `datasets` keeps what it read of a local folder by the folder's name and these
    data, and would answer with old rows after a run that made neurons anew. Not of `runs`, which grows with every run.
    """
    from huggingface_hub import DatasetCardData  # a network library; only this function needs it

    free = all(own_licence(licence) for licence in (*(model["licence"] for model in models), *shown))
    other = {} if free else {"license_name": "see-licences"}
    if not free and licence_file:  # the Hub takes a file of these names or a URL here, and no part of a page
        other["license_link"] = licence_file
    card: Any = DatasetCardData
    data = card(
        pretty_name="Neuron atlas of vision transformers",
        license="cc-by-4.0" if free else "other",
        size_categories=next((name for most, name in _SIZES.items() if neurons < most), "10M<n<100M"),
        task_categories=["image-feature-extraction"],
        tags=[
            "interpretability",
            "mechanistic-interpretability",
            "feature-visualization",
            "vision-transformer",
            *sorted({model["source"] for model in models}),
        ],
        configs=[_config(table) for table in tables],
        dataset_info=[
            {
                "config_name": table.name,
                "features": [_yaml(c.name, feature(c.type)) for c in table.columns],
                **({} if table is RUNS else {"download_size": _bytes_of(sizes[table.name])}),
            }
            for table in tables
        ],
        **other,
    )
    return str(data.to_yaml()).strip()


def _shown_images(atlas: Atlas, known: _Known) -> list[str | None]:
    """Licences of the probe images whose thumbnails are in the atlas, each once; None: not stated."""
    paths = [shard_path(PROBE_IMAGES, name) for name in atlas.probe_sets()]
    shown: list[str | None] = known.value(
        "shown images", paths, lambda: sorted({one for path in paths for one in _shown(atlas.store, path)}, key=str)
    )
    return shown


def _shown(store: Store, path: str) -> list[str | None]:
    # of a thumbnail its name alone: whether it is there, without its bytes
    rows = read_columns(store, path, read_footer(store, path), ["licence", "thumbnail.path"])
    licences: list[str | None] = pc.unique(rows.filter(pc.is_valid(rows["thumbnail"]))["licence"]).to_pylist()
    return licences


def _image_licences(shown: Sequence[str | None]) -> str:
    told = [plain(licence or "not stated") for licence in shown]
    return f"Thumbnails of probe images keep their own licences: {', '.join(told)}." if told else ""


def _evidence(models: Sequence[Row]) -> str:
    """Which images the neurons were measured on, where they were."""
    sets = {model["probe_set"]: model["probe_name"] for model in models if model["probe_set"]}
    if not sets:
        return "No probe stage has run: the neurons were not measured on real images."
    told = ", ".join(f"{plain(name)} (`{digest}`)" for digest, name in sorted(sets.items()))
    return (
        f"Statistics, exciting images, labels, effects and counterparts come from one pass over probe images: {told}. "
        "Two numbers stand for an image: its *peak*, the strongest patch token, and its *mean* over patch tokens."
    )


def _heads(atlas: Atlas, models: Sequence[Row]) -> str:
    """How well the heads of each model are described, from what all its heads have in common."""
    header = ("model", "heads", "direct", "accuracy", "answered by", "texts", "CLIP", "alignment")
    rows = []
    for model in models:
        heads = atlas.heads(model["slug"])
        if heads:
            one = heads[0]
            direct = sum(row["level"] == "direct" for row in heads)
            accuracy = "" if one["accuracy"] is None else f"{one['accuracy']:.1%}"
            cells = [f"`{model['slug']}`", str(len(heads)), str(direct), accuracy, one["answered_by"] or ""]
            cells += [plain(one["text_pool"]), f"`{one['embedder']}`", f"{one['alignment_cosine']:.3f}"]
            rows.append(cells)
    if not rows:
        return "The stage decompose has not run: no head is described."
    return (
        "The final representation of a model is the exact sum of what its heads, FFNs, the image and constants add to "
        "it, attention weights and norms held at their values (Gandelsman et al., 2310.05916; Balasubramanian et al., "
        "2406.01583). The tables of heads describe each head's summand over the probe images. *direct*: heads that "
        "reach the representation along the residual path; the others are described by what passes through the values "
        "of later attention (`level`). *alignment*: cosine to the CLIP's embedding of what linear maps make of the "
        "components, on images they were not fitted on: texts say of a head as much as this allows.\n\n"
        + markdown_table(header, rows)
    )


def _inversions(atlas: Atlas, known: _Known, models: Sequence[Row]) -> str:
    """How many targets of each model were inverted by which recipe, and how often others read them off the pictures."""
    header = ("model", "recipe", "of", "pictures", "comes first", "holds", "readings by other models", "comes first")
    rows: list[Sequence[str]] = []
    for slug in (model["slug"] for model in models):
        paths = [path for table in _INVERTED for path in _shards(atlas.store.sizes(f"{table.name}/{slug}"))]
        if paths:
            told = known.value(f"inversions/{slug}", paths, partial(_read_inversions, atlas, slug))
            rows += [(f"`{slug}`", *line) for line in told]
    if not rows:
        return "No inversion was made: no class, text or head was asked for."
    return (
        "An inversion is a picture made from noise until a model takes it for one of its classes, or for what a text "
        "says, or until a head adds as much as it can along a direction (tables `inversions`, `inversion_readings`). "
        "*comes first*: among the classes that compete, for the picture as stored; texts and heads exclude nothing and "
        "have no place. *holds*: the class still comes first in at least nine of ten natural changes of the picture. "
        "What other models read off a picture tells whether it shows the "
        "class or only moves the model that it was made for.\n\n" + markdown_table(header, rows)
    )


def _read_inversions(atlas: Atlas, slug: str) -> list[list[str]]:
    table = atlas.inversions(slug, ("recipe", "kind", "status", "rank", "natural_right"))
    made, readings = [] if table is None else table.to_pylist(), atlas.inversion_readings(slug)
    lines = []
    for recipe, kind in sorted({(row["recipe"], row["kind"]) for row in made}):
        own = [row for row in made if (row["recipe"], row["kind"], row["status"]) == (recipe, kind, "made")]
        read = [row for row in readings if row["recipe"] == recipe and f"/{kind}/" in row["address"]]
        held = _share(None if row["natural_right"] is None else row["natural_right"] >= _HOLDS for row in own)
        lines.append([f"`{recipe}`", kind, str(len(own)), _first(own), held, str(len(read)), _first(read)])
    return lines


def _first(rows: Sequence[Row]) -> str:
    return _share(None if row["rank"] is None else row["rank"] == 1 for row in rows)


def _share(told: Iterable[bool | None]) -> str:
    """How many of those that say anything say yes: `25%`."""
    said = [one for one in told if one is not None]
    return f"{sum(said) / len(said):.0%}" if said else "-"


def _config(table: Table) -> dict[str, Any]:
    files_of = [{"split": "train", "path": f"{table.name}/**/*.parquet"}]
    default = {"default": True} if table is NEURONS else {}
    return {"config_name": table.name, "data_files": files_of, **default}


def _yaml(name: str, described: Row) -> dict[str, Any]:
    """A feature in the form that `dataset_info.features` has in a card."""
    kind = described.get("_type")
    if kind == "Value":
        return {"name": name, "dtype": described["dtype"]}
    if kind == "Image":
        return {"name": name, "dtype": "image"}
    if kind == "List":
        inner = _yaml("", described["feature"])
        return {"name": name, "list": inner.get("dtype", inner.get("struct"))}
    return {"name": name, "struct": [_yaml(field, inner) for field, inner in described.items()]}


def _figures(atlas: Atlas, known: _Known, slug: str) -> dict[str, Any]:
    """What a reader asks of a model's visualizations, over all its neurons in the atlas."""
    paths = [path for path in atlas.store.list(f"{NEURONS.name}/{slug}") if path.endswith(".parquet")]
    figures: dict[str, Any] = known.value(f"neurons/{slug}", paths, lambda: _read_figures(atlas, slug))
    return figures


def _read_figures(atlas: Atlas, slug: str) -> dict[str, Any]:
    layers = [atlas.neurons(slug, layer, ("address", "status", *_MEDIANS)) for layer in atlas.layers(slug)]
    held = [layer for layer in layers if layer is not None and layer.num_rows]
    if not held:
        return {"neurons": 0, "inactive": 0}
    rows = pa.concat_tables(held)
    medians = {name: pc.quantile(rows[name], 0.5)[0].as_py() for name in _MEDIANS}
    inactive = pc.sum(pc.equal(rows["status"], "inactive")).as_py() or 0  # None where nothing was visualized
    failed = pc.sum(pc.equal(rows["status"], "failed")).as_py() or 0
    return {
        "neurons": rows.num_rows,
        "inactive": inactive,
        "failed": failed,
        "address": rows["address"][0].as_py(),
        **medians,
    }


def _an_address(figures: Mapping[str, Row], models: Sequence[Row]) -> str:
    """A neuron that the atlas holds, as the example; the first of the first model if it holds none."""
    held = [figure["address"] for figure in figures.values() if "address" in figure]
    return str(held[0]) if held else f"{models[0]['slug']}/mlp/0/0"


def _model_table(models: Sequence[Row]) -> str:
    counted = ("neurons", "FFN sites", "heads", "attention sites")
    header = ("model", "from", "family", "parameters", "input", *counted)
    rows = [
        (
            f"`{model['slug']}`",
            plain(model["model_id"]),
            plain(model["family"]),
            f"{model['parameters']:,}",
            f"{model['input_height']} x {model['input_width']}",
            f"{model['neurons']:,}",
            str(model["ffn_sites"]),
            f"{model['heads']:,}",
            str(model["attention_sites"]),
        )
        for model in models
    ]
    return markdown_table(header, rows)


def _table_sizes(tables: Sequence[Table], sizes: Mapping[str, Mapping[str, int]]) -> str:
    rows = []
    for table in tables:
        own = sizes[table.name]
        size = _bytes(_bytes_of(own))
        counts = (str(len(_shards(own))), size)
        if table is RUNS:  # grows with every run, and a run that changes nothing is to leave the card as it is
            counts = ("one a run", "-")
        rows.append((f"`{table.name}`", table.row, ", ".join(table.key), *counts))
    return markdown_table(("table", "a row is", "sorted by", "files", "size"), rows)


def _recipes(models: Sequence[Row]) -> str:
    texts = []
    pictured = [model for model in models if model["recipe_hash"]]
    for digest, model in sorted({model["recipe_hash"]: model for model in pictured}.items()):
        slugs = ", ".join(f"`{other['slug']}`" for other in pictured if other["recipe_hash"] == digest)
        settings = f"```json\n{_indented(model['recipe_json'])}\n```"
        texts.append(f"Recipe `{model['recipe']}` (hash `{digest}`), for {slugs}:\n\n{settings}")
    return "\n\n".join(texts) or "No picture was made: the stage visualize has not run."


def _weights(models: Sequence[Row]) -> str:
    rows = [(f"`{m['slug']}`", f"`{m['fingerprint']}`", "-" if m["seed"] is None else str(m["seed"])) for m in models]
    return markdown_table(("model", "fingerprint", "seed of the pictures"), rows) + "\n\n" + _stages(models)


def _stages(models: Sequence[Row]) -> str:
    """Which stages ran on the models, with what arithmetic and software; equal lines are said once."""
    lines: dict[tuple[str, ...], list[str]] = {}
    for model in models:
        for stage in model["stages"]:
            software = ", ".join(f"{item['name']} {item['version']}" for item in stage["software"])
            line = (stage["stage"], stage["precision"] or "chosen by each worker", plain(software))
            lines.setdefault(line, []).append(f"`{model['slug']}`")
    rows = [(f"`{line[0]}`", *line[1:], ", ".join(slugs)) for line, slugs in lines.items()]
    return markdown_table(("stage", "arithmetic", "software", "models"), rows)


def _results(models: Sequence[Row], figures: Mapping[str, Row]) -> str:
    rows = []
    for model in models:
        figure = figures[model["slug"]]
        medians = ("-" if figure.get(name) is None else f"{figure[name]:.4g}" for name in _MEDIANS)
        failed = figure.get("failed", 0)
        inactive = f"{figure['inactive']:,}" + (f" (and {failed:,} failed)" if failed else "")
        counts = (f"{figure['neurons']:,} of {model['neurons']:,}", inactive)
        rows.append((f"`{model['slug']}`", *counts, *medians))
    return markdown_table(("model", "described", "inactive", *(f"`{name}`" for name in _MEDIANS)), rows)


def _licences(models: Sequence[Row]) -> str:
    rows = [(f"`{m['slug']}`", plain(m["model_id"]), plain(m["licence"] or "not stated")) for m in models]
    return markdown_table(("model", "weights", "licence of the weights"), rows)


def _indented(text: str) -> str:
    """JSON with line breaks; no fence can end inside it."""
    return json.dumps(json.loads(text), indent=2, ensure_ascii=False).replace("`", "'")


def _bytes(count: int) -> str:
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:.3g} TB"
