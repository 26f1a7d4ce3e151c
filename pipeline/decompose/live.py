"""What a head adds along a direction, as a function of the picture: with a gradient, for pictures that climb it.

Norm statistics and everything behind the head are held at their values for the picture, as in all contributions of the
level direct: a gradient that went through them would shrink the rest of the representation rather than show the head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pipeline.decompose.activation_cache import live_heads
from pipeline.decompose.attention import per_head
from pipeline.decompose.components import Level, decompose
from pipeline.models import LoadedModel


@dataclass
class LiveHeads:
    """Projections of single heads' direct contributions, batch by batch of pictures."""

    model: LoadedModel
    _idle: frozenset[int] | None = field(default=None, repr=False)  # of `Decomposition`: a fact of the architecture

    def along(self, x: Tensor, heads: Sequence[int], directions: Tensor) -> Tensor:
        """<direction, contribution> of one head of each picture, (images,), with a gradient to x.

        x: (images, 3, height, width), normalised; heads: the number of a head for each image, in the order of
        attention sites; directions: (images, d). The value is that of `Contributing`, to rounding. Raises what
        `decompose` raises.
        """
        held = decompose(self.model, x, Level.DIRECT, certify=False, idle=self._idle)
        self._idle = held.idle
        gradients, written = held.head_gradients(directions), live_heads(self.model, x)
        wanted = torch.tensor(heads, device=x.device)
        total, first = x.new_zeros(len(x)), 0
        for site in self.model.description.attention_sites:
            own = ((wanted >= first) & (wanted < first + site.heads)).nonzero()[:, 0]
            if len(own):
                module = self.model.module.get_submodule(site.path)
                for heads_of_call, gradient in zip(written[site.path], gradients[site.path], strict=True):
                    if gradient is not None:
                        each = per_head(module, heads_of_call * gradient, len(x), site.heads).sum((1, 3))
                        total = total.index_add(0, own, each[own, wanted[own] - first])
            first += site.heads
        return total
