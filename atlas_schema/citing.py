"""How an atlas is cited: BibTeX with its address, the commit that was read, where it is known, and the schema."""

from __future__ import annotations

from atlas_schema.columns import SCHEMA_VERSION
from atlas_schema.published import hub_url

TITLE = "Neuron atlas of vision transformers"


def bibtex(url: str) -> str:
    """A BibTeX entry of the atlas at a URL; `hf://datasets/ORG/NAME@REVISION` names the revision, other URLs none."""
    hub = hub_url(url)
    address = f"https://huggingface.co/datasets/{hub.repository}" if hub else url
    revision = f"revision {hub.revision}, " if hub and hub.revision else ""
    return (
        "@misc{neuron-atlas,\n"
        f"  title        = {{{TITLE}}},\n"
        f"  howpublished = {{\\url{{{address}}}}},\n"
        f"  note         = {{Dataset, {revision}schema version {SCHEMA_VERSION}}}\n"
        "}"
    )
