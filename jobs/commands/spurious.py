"""The command `spurious`: what a linear classifier gains without the components that carry a misleading feature."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from jobs.commands.own_checkpoint import NONE, OwnCheckpoint

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.images.probe_set import ProbeSet
    from pipeline.uses.spurious import LinearProbe


def spurious(
    *,
    model: Annotated[str, Parameter(help="timm/NAME, open_clip/NAME/TAG or zoo/NAME.")],
    train: Annotated[str, Parameter(help="Images with classes that a linear classifier is fitted on.")],
    test: Annotated[
        list[str], Parameter(help="NAME=SET, images of the same classes in one condition; repeat for several.")
    ],
    probe: Annotated[
        str, Parameter(help="Images that say which components carry what; not --train, where both go together.")
    ],
    core: Annotated[str, Parameter(help="The feature that the classes differ in.")],
    feature: Annotated[str, Parameter(name="--spurious", help="The feature that should not matter.")],
    share: Annotated[float, Parameter(help="Share of the components that is left out.")] = 0.15,
    features: Annotated[
        str | None, Parameter(help="A set of features: a name or TOML file (default: zoo or general).")
    ] = None,
    embedder: Annotated[str, Parameter(help="The CLIP that texts are compared in.")] = "zoo/clip",
    atlas: Annotated[str | None, Parameter(help="Take the model's alignment from this atlas.")] = None,
    checkpoint: OwnCheckpoint = NONE,
    device: Annotated[str, Parameter(help="cpu or cuda.")] = "cpu",
    as_json: Annotated[bool, Parameter(name="--json", help="Print JSON.", negative="")] = False,
) -> int:
    """Leave out the components that carry a spurious feature, and measure a linear classifier before and after."""
    import torch

    from atlas_schema.errors import BadConfig
    from jobs.commands.comparing import compared, feature_set, told_set
    from pipeline.uses.spurious import fit_probe, spurious_components, without

    if not 0 < share < 1:
        raise BadConfig(f"--share {share}: expected a share of the components between 0 and 1, such as 0.15.")
    told = feature_set(features, embedder)
    for name in (core, feature):
        told.prompt_of(name, "")  # refuses a feature that is not there
    learned = told_set(train)
    conditions = {name: told_set(place) for name, place in _named(test).items()}
    _check_classes(learned, conditions)
    request = checkpoint.request(model)
    looked = compared(request, probe, embedder, atlas, device)
    merit = looked.merits(told)
    pair = torch.stack([merit[core], merit[feature]], dim=1)
    chosen = spurious_components(pair, 1, 0, looked.components, looked.direct, share)

    vectors = torch.cat([batch for _, batch in looked.of(learned)])
    means = vectors.mean(0)
    classifier = fit_probe(without(vectors, looked.direct, [], means), _labels(learned, learned.classes))
    rows: list[dict[str, Any]] = []
    for name, images in conditions.items():
        held = torch.cat([batch for _, batch in looked.of(images)])
        labels = _labels(images, learned.classes)
        before = _right(classifier, without(held, looked.direct, [], means), labels)
        after = _right(classifier, without(held, looked.direct, chosen, means), labels)
        rows += _groups(name, learned.classes, labels, before, after)
    found = {
        "model": looked.model.description.id,
        "left_out": [looked.components[place].name for place in chosen],
        **{
            when: {"worst": min(row[when] for row in rows), "average": sum(row[when] for row in rows) / len(rows)}
            for when in ("before", "after")
        },
        "groups": rows,
    }
    print(json.dumps(found, indent=1) if as_json else _text(found))
    return 0


def _named(tests: Sequence[str]) -> dict[str, str]:
    from atlas_schema.errors import BadConfig

    found: dict[str, str] = {}
    for one in tests:
        name, equals, place = one.partition("=")
        if not (name and equals and place) or name in found:
            raise BadConfig(
                f"--test {one}: expected NAME=SET, each name once, such as --test land=birds/on-land "
                "--test water=birds/on-water."
            )
        found[name] = place
    return found


def _check_classes(learned: ProbeSet, conditions: Mapping[str, ProbeSet]) -> None:
    from atlas_schema.errors import BadConfig

    if len(learned.classes) < 2:
        raise BadConfig(
            f"--train {learned.spec}: {len(learned.classes)} classes; expected two or more, such as a folder a class."
        )
    for name, images in {"--train": learned, **conditions}.items():
        unknown = {image.label for image in images.images} - set(learned.classes)
        if unknown:
            one = min(unknown)
            what = f"the class {one!r}, which --train does not have" if one else "images without a class"
            raise BadConfig(f"{name} {images.spec}: {what}. Expected: {', '.join(learned.classes)}.")


def _labels(images: ProbeSet, classes: Sequence[str]) -> Tensor:
    import torch

    return torch.tensor([classes.index(image.label) for image in images.images])


def _right(classifier: LinearProbe, representation: Tensor, labels: Tensor) -> Tensor:
    return (classifier(representation).argmax(1) == labels).double()


def _groups(
    condition: str, classes: Sequence[str], labels: Tensor, before: Tensor, after: Tensor
) -> list[dict[str, Any]]:
    """Accuracies of each class that the condition shows."""
    found = []
    for place, name in enumerate(classes):
        own = labels == place
        if own.any():
            shares = {"before": float(before[own].mean()), "after": float(after[own].mean())}
            found.append({"condition": condition, "class": name, "images": int(own.sum()), **shares})
    return found


def _text(found: Mapping[str, Any]) -> str:
    lines = [f"{found['model']}: left out {', '.join(found['left_out'])}"]
    for row in found["groups"]:
        lines.append(
            f"  {row['class']:16} {row['condition']:16} {row['images']:6} images  "
            f"{row['before']:.3f} -> {row['after']:.3f}"
        )
    for which in ("worst", "average"):
        lines.append(f"  {which} group: {found['before'][which]:.3f} -> {found['after'][which]:.3f}")
    return "\n".join(lines)
