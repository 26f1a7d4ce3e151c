"""The command `check weights`: what a file of weights is, which architectures it fits, and the run that works."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

if TYPE_CHECKING:
    from pipeline.models.weights_check import WeightsReport


def weights(
    file: Annotated[str, Parameter(help="A file, folder or URL of weights.")],
    *,
    model: Annotated[str | None, Parameter(help="Compare with this architecture alone.")] = None,
    as_json: Annotated[bool, Parameter(name="--json", help="Print JSON.", negative="")] = False,
) -> int:
    """Say what a file of weights is, which architectures fit it, what would be changed, and the command that works."""
    from pipeline.models.weights_check import check_weights

    found = as_dict(check_weights(file, model))
    print(json.dumps(found, indent=1) if as_json else _text(found))
    return 0 if found["command"] else 1


def as_dict(report: WeightsReport) -> dict[str, Any]:
    """What `--json` prints."""
    return {
        "file": report.location,
        "form": report.form,
        "tensors": report.tensors,
        "bytes": report.bytes,
        "architectures": [
            {
                "id": one.id,
                "share": round(one.share, 4),
                "extra_tensors": one.extra,
                "same_shapes": list(one.same),
                "names": one.layout,
                "under": one.prefix.rstrip("."),
            }
            for one in report.candidates
        ],
        "model": report.request.model if report.request else None,
        "notes": list(report.notes),
        "error": report.error or None,
        "command": report.command or None,
    }


def _text(found: dict[str, Any]) -> str:
    lines = [f"{found['file']}: {found['form']}, {found['tensors']} tensors, {found['bytes'] / 1e6:,.1f} MB"]
    if found["architectures"]:
        lines += ["", "architectures that it fits, by names and shapes:"]
    for one in found["architectures"]:
        where = f", under {one['under']}" if one["under"] else ""
        theirs = f", names of {one['names']}" if one["names"] != "its own" else ""
        lines.append(f"  {one['id']:48} {one['share']:6.1%} of its tensors are there{where}{theirs}")
        if one["same_shapes"]:
            more = len(one["same_shapes"]) - 3
            rest = f" and {more} more" if more > 0 else ""
            lines.append(f"    with the same names and shapes: {', '.join(one['same_shapes'][:3])}{rest}")
    if found["error"]:
        lines += ["", f"as {found['model']}:" if found["model"] else "", found["error"]]
    else:
        lines += ["", f"as {found['model']}, on the way in:"]
        lines += [f"  {note}" for note in found["notes"]] or ["  nothing is changed"]
        lines += ["", "the run that works:", f"  {found['command']}"]
    return "\n".join(lines)
