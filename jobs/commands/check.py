"""The command `check decomposition`: whether a representation is the sum of its heads, FFNs, image and constants."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Annotated, Any

from cyclopts import Parameter

from jobs.commands.own_checkpoint import NONE, OwnCheckpoint

# what the command promises for each model
KEYS = (
    *("id", "relative_error", "heads", "heads_with_direct_effect"),
    *("euler_error_through_attention", "euler_error_gated"),
)


def decomposition(
    *,
    model: Annotated[list[str], Parameter(help="timm/NAME, open_clip/NAME/TAG or zoo/NAME; repeat for several.")],
    random_weights: Annotated[
        bool, Parameter(help="Untrained weights, every parameter perturbed.", negative="")
    ] = False,
    checkpoint: OwnCheckpoint = NONE,
    images: Annotated[int, Parameter(help="Pictures of noise to check on.")] = 4,
    device: Annotated[str, Parameter(help="cpu or cuda.")] = "cpu",
    as_json: Annotated[bool, Parameter(name="--json", help="Print JSON.", negative="")] = False,
) -> int:
    """Check that a model's representation is the sum of its heads, FFNs, image and constants."""
    from atlas_schema.errors import BadConfig

    if images < 1:
        raise BadConfig(f"--images {images}: at least one picture is needed.")
    rows: list[dict[str, Any]] = []
    for name in model:
        found = _check(name, random_weights, checkpoint, images, device)
        rows.append({key: found[key] for key in KEYS})
        if not as_json:
            print(_text(found))
            sys.stdout.flush()
    if as_json:
        print(json.dumps({"models": rows}, indent=1))
    return 0


def _check(name: str, random_weights: bool, checkpoint: OwnCheckpoint, images: int, device: str) -> dict[str, Any]:
    from pipeline.decompose import check_decomposition, perturb, random_pictures
    from pipeline.models import load

    own = {"name": checkpoint.as_name or "checked"} if checkpoint.weights else {}
    request = checkpoint.request(name, random_weights=random_weights, **own)
    loaded = load(request, device)
    if random_weights:
        perturb(loaded)
    return asdict(check_decomposition(loaded, random_pictures(loaded, images)))


def _text(found: dict[str, Any]) -> str:
    silent = [layer for layer, reached in found["reach"].items() if not any(reached)]
    lines = [
        f"{found['id']}",
        f"  sum of components: relative error {found['relative_error']:.1e}",
        f"  Euler's identity: through attention {found['euler_error_through_attention']:.1e}, "
        f"gated {found['euler_error_gated']:.1e}",
        f"  heads with direct effect: {found['heads_with_direct_effect']} of {found['heads']}",
    ]
    if silent:
        lines.append(f"  attention sites without direct effect: {', '.join(map(str, silent))}")
    return "\n".join(lines)
