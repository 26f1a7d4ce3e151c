"""The command `study associations`: which words a CLIP's text tower holds together, against chance."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from jobs.commands.own_checkpoint import NONE, OwnCheckpoint

if TYPE_CHECKING:
    from pipeline.label.embedder import Embedder
    from pipeline.uses.word_groups import WordGroups

NOTICE = (
    "These are distances between vectors of one model: what its training captions put together. They say nothing of "
    "the people or things that the words name."
)


def associations(
    words: Annotated[
        Path, Parameter(help="A TOML file of words: [attributes] with two groups, [targets], near, pool.")
    ],
    *,
    model: Annotated[str, Parameter(help="A CLIP: open_clip/NAME/TAG or zoo/clip.")],
    seed: Annotated[int, Parameter(help="Of the drawn dealings, where there are too many to look at all.")] = 0,
    checkpoint: OwnCheckpoint = NONE,
    device: Annotated[str, Parameter(help="cpu or cuda.")] = "cpu",
    as_json: Annotated[bool, Parameter(name="--json", help="Print JSON.", negative="")] = False,
) -> int:
    """Say which words a CLIP's text tower holds nearer to one group of words than to another, and what chance does."""
    from pipeline.label.embedder import load_embedder
    from pipeline.uses.word_groups import read_word_groups

    groups = read_word_groups(words)
    embedder = load_embedder(checkpoint.request(model), device)
    found = {"model": embedder.vision.description.id, "notice": NOTICE, **studied(groups, embedder, seed)}
    print(json.dumps(found, indent=1, ensure_ascii=False) if as_json else text_of(found))
    return 0


def studied(groups: WordGroups, embedder: Embedder, seed: int = 0) -> dict[str, Any]:
    """All that the groups of words ask for. BadConfig for words that the model does not read."""
    from math import comb

    import torch

    from pipeline.uses.associations import associations as associated
    from pipeline.uses.associations import effect, nearness

    vectors = {name: groups.embedded(embedder, of) for name, of in {**groups.attributes, **groups.targets}.items()}
    (one, first), (other, second) = groups.attributes.items()
    words, targets = (
        [word for of in groups.targets.values() for word in of],
        torch.cat([vectors[of] for of in groups.targets]),
    )
    group_of = [name for name, of in groups.targets.items() for _ in of]
    both = vectors[one], vectors[other]
    rows = associated(words, targets, *both, seed)
    pairs = [(x, y) for at, x in enumerate(groups.targets) for y in [*groups.targets][at + 1 :]]
    compared = [
        {"first": x, "second": y, **asdict(effect(vectors[x], vectors[y], *both, seed))}
        for x, y in pairs
        if min(len(groups.targets[x]), len(groups.targets[y])) > 1
    ]
    near = groups.near and nearness(
        words,
        targets,
        groups.near,
        groups.embedded(embedder, groups.near),
        groups.embedded(embedder, groups.pool),
    )
    return {
        "first": one,
        "second": other,
        "least_p": 1 / comb(len(first) + len(second), len(first)),
        "words": [{"group": group, **asdict(row)} for group, row in zip(group_of, rows, strict=True)],
        "groups": compared,
        "near": [asdict(row) for row in near or ()],
    }


def text_of(found: dict[str, Any]) -> str:
    """As people read it: words in the order of their association, the groups, and what lies near the list."""
    one, other = found["first"], found["second"]
    lines = [
        f"{found['model']}: mean cosine with {one} minus mean cosine with {other}",
        f"  {'word':24} {'value':>8} {'by chance':>10} {'p':>7} {'q':>7}",
    ]
    for row in sorted(found["words"], key=lambda row: -row["value"]):
        chance = f"± {row['null']:.3f}"
        lines.append(f"  {row['word']:24} {row['value']:+8.3f} {chance:>10} {row['p']:7.3f} {row['q']:7.3f}")
    lines.append(f"  with so many words in {one} and {other} no p is below {found['least_p']:.2g}")
    for row in found["groups"]:
        lines.append(f"{row['first']} against {row['second']}: effect size {row['value']:+.2f}, p {row['p']:.3f}")
    for row in sorted(found["near"], key=lambda row: row["share"]):
        lines.append(
            f"  {row['word']:24} nearest in the list: {row['nearest']} (cosine {row['cosine']:.3f}); "
            f"{row['share']:.1%} of the pool are as near"
        )
    return "\n".join([*lines, found["notice"]])
