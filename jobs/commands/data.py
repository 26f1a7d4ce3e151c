"""models, status, validate, show, card: the commands that read what is there."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

if TYPE_CHECKING:
    import pyarrow as pa

    from atlas_schema.columns import Table
    from atlas_schema.read import Atlas
    from atlas_schema.store import Store

AtlasArgument = Annotated[str, Parameter(help="The atlas: a folder or URL.")]
Json = Annotated[bool, Parameter(name="--json", help="Print JSON.", negative="")]


def models(
    pattern: Annotated[str, Parameter(help="Shell pattern on model ids, or a part of one.")] = "*",
    *,
    as_json: Json = False,
) -> int:
    """List the checkpoints that can be asked for by name."""
    from atlas_schema.errors import UnknownModel
    from pipeline.models import known_models

    found = known_models(pattern if "*" in pattern or "?" in pattern else f"*{pattern}*")
    if not found:
        raise UnknownModel(f"No known model id matches {pattern!r}. `neuron-atlas models` lists all.")
    print(json.dumps(found, indent=1) if as_json else "\n".join(found))
    return 0


def status(
    atlas: AtlasArgument = "atlas",
    *,
    watch: Annotated[
        float | None, Parameter(help="Say it again every so many seconds, as long as a run is at work.")
    ] = None,
    log: Annotated[
        str | None, Parameter(help="Print the log of a run instead, a JSON object a line: its id, or last.")
    ] = None,
    as_json: Json = False,
) -> int:
    """Say what of an atlas is committed: read from its files alone."""
    from atlas_schema.errors import BadConfig
    from jobs.run_log import logged_runs, read_log
    from jobs.status import status_of, status_text

    if log is not None:
        store = _store(atlas)
        runs = logged_runs(store)
        for line in read_log(store, runs[-1] if log == "last" and runs else log):
            print(json.dumps(line))
        return 0
    if watch is not None and not watch > 0:
        raise BadConfig(f"--watch {watch:g}: expected seconds, more than 0.")
    store = _store(atlas)
    while True:
        state = status_of(store)
        print(json.dumps(state, indent=1) if as_json else status_text(state), flush=True)
        if watch is None or not state["running"]:
            return 0
        time.sleep(watch)
        print("" if as_json else time.strftime("\n%H:%M:%S"))


def validate(
    atlas: AtlasArgument = "atlas",
    *,
    quick: Annotated[bool, Parameter(help="Read no more than footers and small columns.", negative="")] = False,
    deep: Annotated[bool, Parameter(help="Read what lies under .atlas as the pipeline does, too.", negative="")] = (
        False
    ),
    as_json: Json = False,
) -> int:
    """Check an atlas: schema, counts, keys, images, gaps, duplicates. Exit code 1: violations."""
    from dataclasses import asdict

    from atlas_schema.errors import BadConfig
    from atlas_schema.validate import Depth, check, what_to_do

    if quick and deep:
        raise BadConfig("--quick and --deep: expected one of them. --deep reads everything, --quick the least.")
    report = check(_store(atlas), Depth.QUICK if quick else Depth.DEEP if deep else Depth.BYTES)
    violations = report.violations
    if as_json:
        print(json.dumps([asdict(one) | {"what_to_do": what_to_do(one)} for one in violations], indent=1))
    else:
        for one in violations:
            print(f"{one.path}: {one.kind}: {one.message}\n    {what_to_do(one)}")
        found = f"{len(violations)} violations" if violations else "valid"
        print(f"{atlas}: {found}, {report.files:,} files")
    return 1 if violations else 0


def show(
    address: Annotated[str, Parameter(help="A neuron or a head: zoo-vit/mlp/3/17 or zoo-vit/head/3/1.")],
    *,
    atlas: AtlasArgument = "atlas",
    image: Annotated[Path | None, Parameter(help="Save the picture: .webp as stored, or .png, .jpg.")] = None,
    open_picture: Annotated[bool, Parameter(name="--open", help="Open the picture.", negative="")] = False,
    as_json: Json = False,
) -> int:
    """Print the numbers of a neuron or a head; save or open a neuron's picture."""
    from atlas_schema.address import HeadAddress, parse_address
    from atlas_schema.errors import BadConfig
    from atlas_schema.read import Atlas
    from atlas_schema.tables import HEADS, NEURONS

    reader = Atlas(atlas)
    place = parse_address(address)
    if isinstance(place, HeadAddress):
        if image or open_picture:
            raise BadConfig(f"{address}: a head has no picture of its own; --image and --open are for neurons.")
        head = reader.head(place)
        print(json.dumps(head, indent=1, default=str) if as_json else _head_text(head, HEADS))
        return 0
    row = reader.neuron(address)
    if image or open_picture:
        path = _save(reader.picture(address), image or _temporary(address))
        print(f"Picture: {path}", file=sys.stderr)
        if open_picture:
            import webbrowser

            webbrowser.open(path.resolve().as_uri())
    print(json.dumps(row, indent=1, default=str) if as_json else _row_text(row, NEURONS))
    return 0


def _temporary(address: str) -> Path:
    import tempfile

    return Path(tempfile.mkdtemp(prefix="neuron-atlas-")) / (address.replace("/", "-") + ".webp")


def _save(webp: bytes, path: Path) -> Path:
    from atlas_schema.errors import BadConfig

    try:
        if path.suffix.lower() == ".webp":
            path.write_bytes(webp)
        else:
            import io

            from PIL import Image

            Image.open(io.BytesIO(webp)).convert("RGB").save(path)
    except (OSError, ValueError) as error:
        raise BadConfig(
            f"--image {path}: the picture cannot be written there ({error}). Give a file name that ends "
            "in .webp, .png or .jpg in a folder that exists."
        ) from error
    return path


def _head_text(head: dict[str, Any], table: Table) -> str:
    """The row of a head, then its texts and features, a line each."""
    lines = [_row_text(head, table), ""]
    lines += [f"{one['cumulative']:6.1%} {one['explained']:6.1%}  {one['text']}" for one in head["texts"]]
    lines += ["", *(f"{one['score']:+.3f}  rank {one['rank']:<4} {one['feature']}" for one in head["features"])]
    return "\n".join(lines)


def _row_text(row: dict[str, Any], table: Table) -> str:
    """Name, value and unit of each column, in the order of the table; what is absent says why."""
    lines = []
    for column in table.columns:
        if column.name in row:
            value = row[column.name]
            text = f"- ({column.absent})" if value is None else _value_text(value)
            lines.append(f"{column.name:22} {text}{' ' + column.unit if column.unit and value is not None else ''}")
    return "\n".join(lines)


def _value_text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.5g}"
    if isinstance(value, list):
        return "\n".join(
            [f"{len(value)} points" if value else "none"]
            + [
                " " * 23 + ", ".join(f"{key} {_value_text(item)}" for key, item in point.items())
                if isinstance(point, dict)
                else " " * 23 + _value_text(point)
                for point in value
            ]
        )
    return str(value)


def search(
    text: Annotated[str, Parameter(help="A word or phrase, for example stripes.")],
    *,
    atlas: AtlasArgument = "atlas",
    limit: Annotated[int, Parameter(help="Neurons, and heads, to print at most.")] = 20,
    as_json: Json = False,
) -> int:
    """Find neurons by their label, heads by any text that explains a hundredth of them, features by their name."""
    from atlas_schema.errors import NothingThere
    from atlas_schema.read import Atlas
    from atlas_schema.searching import best_first, ranked

    reader = Atlas(atlas)
    neurons, heads, features = reader.search(""), _texts_of_heads(reader), _features(reader)
    if not neurons.num_rows and not heads.num_rows:
        raise NothingThere(f"{atlas}: nothing has a label. Run the stages probe and label: see docs/evidence.md.")
    found = best_first(neurons, text, "label", "label_z")
    of_heads = best_first(heads, text, "text", "explained")
    named = ranked(text, features)
    if as_json:
        listed = [*found.slice(0, limit).to_pylist(), *of_heads.slice(0, limit).to_pylist()]
        print(json.dumps([*listed, *({"feature": name, "components": features[name]} for name in named)], indent=1))
    else:
        shown = [
            f"{row['address']:40} z {row['label_z']:5.1f}  {row['label']}" for row in found.slice(0, limit).to_pylist()
        ]
        shown += [
            f"{row['address']:40} {row['explained']:7.0%}  {row['text']}"
            for row in of_heads.slice(0, limit).to_pylist()
        ]
        shown += [f"feature {name}: {features[name]:,} heads and FFNs are scored for it" for name in named]
        total = len(set(heads["address"].to_pylist()))
        counts = f"{found.num_rows:,} of {neurons.num_rows:,} labelled neurons"
        counts += f", {len(set(of_heads['address'].to_pylist())):,} of {total:,} heads"
        print("\n".join([*shown, counts]))
    return 0 if found.num_rows or of_heads.num_rows or named else 1


def _texts_of_heads(reader: Atlas) -> pa.Table:
    """Texts by which heads are found, as on the site."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from atlas_schema.head_tables import HEAD_TEXTS
    from atlas_schema.searching import FOUND_BY

    names = ["address", "text", "explained"]
    tables = [reader.rows(HEAD_TEXTS, model["slug"], names) for model in reader.models()]
    rows = pa.concat_tables([pa.schema([HEAD_TEXTS.schema().field(name) for name in names]).empty_table(), *tables])
    return rows.filter(pc.greater_equal(rows["explained"], FOUND_BY))


def _features(reader: Atlas) -> dict[str, int]:
    """Names of features, with how many heads and FFNs of all models are scored for each."""
    from atlas_schema.head_tables import HEAD_FEATURES

    counts: dict[str, int] = {}
    for model in reader.models():
        for name in reader.rows(HEAD_FEATURES, model["slug"], ["feature"])["feature"].to_pylist():
            counts[name] = counts.get(name, 0) + 1
    return counts


def card(
    atlas: AtlasArgument = "atlas",
    *,
    croissant: Annotated[
        Path | None, Parameter(help="Write the description in Croissant (JSON-LD) to this file, too.")
    ] = None,
    url: Annotated[
        str, Parameter(help="Where the atlas is published, for --croissant: hf://datasets/ORG/NAME@REVISION.")
    ] = "",
) -> int:
    """Write the dataset card (README.md) of an atlas again, from what is in it."""
    from atlas_schema.card import write_card
    from atlas_schema.errors import BadConfig

    if url and croissant is None:
        raise BadConfig(f"--url {url}: only the description that --croissant FILE writes names it; give both.")
    store = _store(atlas)
    write_card(store)
    print(f"{atlas}/README.md")
    if croissant is not None:
        from atlas_schema.croissant import croissant_text

        text = croissant_text(store, url)
        try:
            croissant.write_text(text, encoding="utf-8")
        except OSError as error:
            raise BadConfig(
                f"--croissant {croissant}: cannot be written ({error.strerror}). "
                "Give a file name in a folder that exists."
            ) from error
        print(croissant)
    return 0


def _store(url: str) -> Store:
    from atlas_schema.store import Store

    return Store(url)
