"""Which runs worked on which models, from the configuration that each run stores."""

from __future__ import annotations

import json
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from atlas_schema.address import slug_of, slugify
from atlas_schema.errors import AtlasError


def worked_on(run: Mapping[str, Any], model: Mapping[str, Any]) -> bool:
    """Whether a run's configuration asks for the model.

    run, model: rows of their tables. A configuration that is not there or cannot be read asks for none.
    """
    try:
        config = json.loads(run["config"] or "null")
    except ValueError:
        return False
    entries = config.get("models") if isinstance(config, dict) else None
    return any(_asks_for(entry, model["model_id"], model["slug"]) for entry in entries or () if isinstance(entry, dict))


def _asks_for(entry: Mapping[str, Any], model_id: str, slug: str) -> bool:
    """Whether an entry of a configuration's models is the model of this id and slug.

    A name that the user gave is the slug. Without one it is the id's, with `--random` behind it for random weights;
    the id may be a pattern (zoo/*), or lack the tag, which the library then chooses.
    """
    try:
        if entry.get("name"):
            return slugify(entry["name"]) == slug
        expected = slug_of(model_id) + ("--random" if entry.get("random_weights") else "")
    except AtlasError:
        return False
    asked = entry.get("model") or ""
    ids = {asked, _untagged(asked)} if entry.get("random_weights") else {asked}
    return slug == expected and any(fnmatchcase(own, one) for own in (model_id, _untagged(model_id)) for one in ids)


def _untagged(model_id: str) -> str:
    """The id without its tag: timm/NAME, open_clip/NAME, zoo/NAME."""
    source, _, rest = model_id.partition("/")
    return f"{source}/{rest.partition('/' if source == 'open_clip' else '.')[0]}"
