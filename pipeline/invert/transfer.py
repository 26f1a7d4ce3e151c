"""Transfer: what other models with the same classes make of a picture, beside what they make of real images.

A picture that only its own model reads may be noise that this model happens to answer to. A picture that others read,
who never saw how it was made, shows the class. Chance and the reading of real images stand beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from atlas_schema.errors import BadConfig
from pipeline.invert.ascent import answers_to
from pipeline.invert.targets import Outputs, Target
from pipeline.models import LoadedModel


@dataclass(frozen=True)
class Reading:
    """What a model says of some pictures, a number each: (n,)."""

    score: Tensor  # probability of the target among its rivals; of a text its cosine. NaN: no picture
    rank: Tensor  # int64, of the target among its rivals, from 1; where it ties with others it comes after them

    @property
    def right(self) -> Tensor:
        """bool (n,): whether the target comes first. A picture that is not there is not read rightly."""
        return self.rank == 1


@torch.no_grad()
def read(model: LoadedModel, outputs: Outputs, index: Sequence[int], pictures: Tensor, batch: int = 64) -> Reading:
    """What a model says of pictures (n, 3, height, width) in [0, 1] of any size, each as of the output `index` (n,)."""
    scores, ranks = [], []
    own = torch.as_tensor(index, dtype=torch.int64, device=model.device)
    for some, places in zip(pictures.split(batch), own.split(batch), strict=True):
        answers = answers_to(model, outputs, fitted(some.to(model.device), model.description.input_size))
        rivals = outputs.rivals(places)
        wanted = answers.gather(1, places[:, None])
        if outputs.kind == "text":
            scores.append(wanted.squeeze(1).cpu())
        else:
            scores.append(answers.masked_fill(~rivals, -torch.inf).softmax(1).gather(1, places[:, None])[:, 0].cpu())
        ranks.append((rivals & ~(answers < wanted)).sum(1).cpu())  # of NaN all rivals count: never the first
    return Reading(torch.cat(scores), torch.cat(ranks)) if scores else Reading(torch.empty(0), torch.empty(0).long())


def fitted(pictures: Tensor, size: tuple[int, int]) -> Tensor:
    """Pictures scaled to a model's input size as images are, bicubic with antialiasing, in [0, 1]."""
    if tuple(pictures.shape[2:]) == tuple(size):
        return pictures
    return F.interpolate(pictures, size=size, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)


def counterpart_classes(targets: Sequence[Target], classes: Sequence[str], names: tuple[str, str]) -> list[int]:
    """The reader's output for each target, by name. classes: of the reader; names: of the model inverted, and of it.

    BadConfig where one has no class of that name, or two: then there is no transfer to speak of.
    """
    places: dict[str, list[int]] = {}
    for index, name in enumerate(classes):
        places.setdefault(name, []).append(index)
    lacking = [target.text for target in targets if len(places.get(target.text, ())) != 1]
    if lacking:
        raise BadConfig(
            f"{names[1]} cannot read the pictures of {names[0]}: it has not exactly one class called {lacking[0]!r} "
            f"({len(lacking)} of {len(targets)} targets), expected the same names of classes in both. "
            "Take models that were trained on the same classes, or give both their names with --class-names."
        )
    return [places[target.text][0] for target in targets]


def chance(outputs: Outputs, index: Sequence[int]) -> Tensor:
    """How often a guess among the rivals is right, for each of `index`: (n,)."""
    return 1 / outputs.rivals(torch.as_tensor(index, dtype=torch.int64)).sum(1).double()
