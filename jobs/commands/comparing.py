"""Loads what the commands heatmap, retrieve and spurious compare: a model, images, texts and the model's alignment."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atlas_schema.store import Store
    from pipeline.decompose import Alignment, FeatureSet
    from pipeline.images.probe_set import ProbeSet
    from pipeline.models import ModelRequest
    from pipeline.uses.comparison import Compared


def feature_set(features: str | None, embedder: str) -> FeatureSet:
    """The features asked for, else those whose words the embedder knows."""
    from pipeline.decompose import read_features
    from pipeline.label.concepts import suited_set

    return read_features(features or suited_set(embedder))


def told_set(spec: str) -> ProbeSet:
    """A probe set, opened; what is in it and what was left out goes to stderr. BadConfig, NothingThere."""
    from jobs.opening import opened_set

    return opened_set(spec, lambda text: print(text, file=sys.stderr))


def compared(request: ModelRequest, probe: str, embedder: str | None, atlas: str | None, device: str) -> Compared:
    """The model over the probe set; embedder: None where nothing is compared with texts. BadConfig where the embedder
    reads no text; NothingThere where the atlas has no alignment of the model.
    """
    from atlas_schema.store import Store
    from pipeline.label.embedder import load_embedder
    from pipeline.models import ModelRequest, load
    from pipeline.uses.comparison import Compared

    probe_set = told_set(probe)
    clip = load_embedder(ModelRequest(embedder), device) if embedder else None
    if clip is not None:
        clip.texts(["a"])  # refuses a model without a text tower before anything is computed
    model = load(request, device)
    given = alignment_of(Store(atlas), model.description.slug) if atlas else None
    return Compared(model, probe_set, clip, given)


def alignment_of(store: Store, slug: str) -> Alignment:
    """The maps that a run fitted from a model to a CLIP, from an atlas. NothingThere where none did."""
    from atlas_schema.errors import NothingThere
    from atlas_schema.partials import read_partial
    from atlas_schema.read import Atlas
    from atlas_schema.units import Whole
    from jobs.claim import claimed_identities
    from pipeline.decompose import Alignment

    rows = {row["slug"]: row for row in Atlas(store).models()}
    identity = claimed_identities(rows.get(slug)).get("align")
    if identity is None:
        raise NothingThere(
            f"{store.url}: no alignment of {slug} with a CLIP is there. Run `neuron-atlas run --model ... --probe SET "
            "--stages decompose` into this atlas first."
        )
    return Alignment.of(read_partial(store, identity.unit("align", slug, Whole())))


def opened(path: Path, option: str) -> Any:
    """The picture that an option names, RGB. BadConfig where it cannot be read."""
    from atlas_schema.errors import BadConfig, BadImage
    from pipeline.images.decoding import decoded

    try:
        return decoded(path.read_bytes())
    except (OSError, BadImage) as error:
        raise BadConfig(
            f"{option} {path}: cannot be read ({error}). Give an image file, such as a JPEG or PNG."
        ) from error
