"""What the stages of heads committed, read back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atlas_schema.errors import NothingThere
from atlas_schema.partials import read_or_remove
from atlas_schema.parts import WorkUnit, alike
from atlas_schema.store import Store
from jobs.measuring import SEED
from jobs.tasks import Surroundings

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.decompose.align import Alignment


def root(at: Surroundings, stage: str, slug: str) -> WorkUnit:
    """The unit that stands for a whole stage of a model (or, of `pool` and `embed`, of the embedder)."""
    measuring = at.measuring
    return measuring.root(stage, slug, _fingerprint(at, stage, slug))


def _fingerprint(at: Surroundings, stage: str, slug: str) -> str:
    if stage in ("pool", "embed"):
        return at.measuring.embedder_or_fail.fingerprint
    return str(at.model(slug).fingerprint)


def embedded(at: Surroundings) -> dict[str, Tensor]:
    """All texts that heads are compared with, by what they are for."""
    import torch

    arrays = at.read_arrays(root(at, "pool", at.measuring.embedder_or_fail.slug))
    return {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}


def alignment_at(at: Surroundings, slug: str) -> Alignment:
    from pipeline.decompose.align import Alignment

    return Alignment.of(at.read_arrays(root(at, "align", slug)))


def committed(store: Store, stage: str, slug: str) -> WorkUnit | None:
    """The root partial of a stage of a model, as the atlas claims it; None where there is none."""
    from atlas_schema.read import Atlas

    rows = {row["slug"]: row for row in Atlas(store).models()}
    settings = {one["stage"]: one["settings"] for one in rows[slug]["stages"]} if slug in rows else {}
    if stage not in settings:
        return None
    like = WorkUnit(stage, slug, 0, 0, 1, rows[slug]["fingerprint"], settings[stage], SEED)
    return max(alike(store, like), key=lambda one: one.stop - one.start, default=None)


def alignment_of(store: Store, slug: str) -> Alignment:
    """The maps that a run fitted, from an atlas. NothingThere where none did."""
    from pipeline.decompose.align import Alignment

    unit = committed(store, "align", slug)
    if unit is None:
        raise NothingThere(
            f"{store.url}: no alignment of {slug} with a CLIP is there. Run `neuron-atlas run --model ... --probe SET "
            "--stages decompose` into this atlas first."
        )
    return Alignment.of(read_or_remove(store, unit))
