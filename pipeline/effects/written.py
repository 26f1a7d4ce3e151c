"""What the neurons of a model write to: of each, the few outputs that it raises and lowers most, as arrays to keep."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pipeline.effects.direct import MEMORY, SiteEffect, site_effects
from pipeline.effects.readout import Readout
from pipeline.models import LoadedModel


@dataclass(frozen=True)
class WriteSettings:
    """What is said of the outputs that a neuron writes to."""

    written: int = 5  # outputs named that a neuron raises most, and as many that it lowers most
    frozen_images: int = 32  # of the panel, whose norms' statistics the direct effects are averaged over


_PARTS = ("raised", "raised_value", "lowered", "lowered_value", "reason")
UNITS_AT_ONCE = 512


@dataclass(frozen=True)
class LayerWrites:
    """The outputs that each neuron of a layer raises and lowers most per unit of activation, or why there are none.

    raised, lowered: int32 (width, at most `WriteSettings.written`), indices of outputs from the greatest effect to the
    least, none in both; raised_value, lowered_value: float32, their effects. With a reason, of no neurons.
    """

    raised: NDArray[np.int32]
    raised_value: NDArray[np.float32]
    lowered: NDArray[np.int32]
    lowered_value: NDArray[np.float32]
    reason: str = ""


@dataclass(frozen=True)
class DirectEffects:
    """What the neurons of some layers of a model write to, by layer."""

    layers: Mapping[int, LayerWrites]

    @classmethod
    def of_sites(cls, effects: Iterable[SiteEffect], count: int) -> DirectEffects:
        """The `count` outputs that each neuron raises most, and as many of the others that it lowers most."""
        return cls({effect.layer: _writes(effect, count) for effect in effects})

    @staticmethod
    def names(layer: int) -> list[str]:
        """The arrays that hold a layer."""
        return [f"{layer}/{part}" for part in _PARTS]

    def arrays(self) -> dict[str, np.ndarray]:
        """By name, as "3/raised"; a reason as the bytes of its text."""
        found: dict[str, np.ndarray] = {}
        for layer, writes in self.layers.items():
            text = np.frombuffer(writes.reason.encode(), np.uint8)
            values = (writes.raised, writes.raised_value, writes.lowered, writes.lowered_value, text)
            found.update(zip(self.names(layer), values, strict=True))
        return found

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> DirectEffects:
        """From the arrays of all layers or of some."""
        layers = sorted({int(name.partition("/")[0]) for name in arrays})
        found = {}
        for layer in layers:
            raised, raised_value, lowered, lowered_value, text = (arrays[name] for name in cls.names(layer))
            found[layer] = LayerWrites(raised, raised_value, lowered, lowered_value, text.tobytes().decode())
        return cls(found)


def written_effects(
    model: LoadedModel,
    readout: Readout,
    images: Iterable[Tensor],
    count: int,
    *,
    memory: int = MEMORY,
    on_step: Callable[[], None] = lambda: None,
) -> DirectEffects:
    """The strongest `count` of a model's direct effects; but these, one layer's are held at a time.

    images, memory, on_step: as in `pipeline.effects.direct.direct_effects`. BadConfig without images.
    """
    return DirectEffects.of_sites(site_effects(model, readout, images, memory=memory, on_step=on_step), count)


def _writes(effect: SiteEffect, count: int) -> LayerWrites:
    if effect.effect is None:
        index, value = np.zeros((0, 0), np.int32), np.zeros((0, 0), np.float32)
        return LayerWrites(index, value, index, value, effect.reason)
    parts = [_strongest(some.T.float().cpu().numpy(), count) for some in effect.effect.split(UNITS_AT_ONCE, dim=1)]
    raised, raised_value, lowered, lowered_value = (np.concatenate(part) for part in zip(*parts, strict=True))
    return LayerWrites(raised, raised_value, lowered, lowered_value)


def _strongest(strength: NDArray[np.float32], count: int) -> tuple[NDArray[Any], ...]:
    """raised, raised_value, lowered, lowered_value of some units. strength: (units, names)."""
    left = np.array(strength, order="C")
    raised = min(count, left.shape[1])
    lowered = min(count, left.shape[1] - raised)
    # among equals the order is that of the outputs, from the greatest effect to the least
    up = [_taken(left, left.argmax(1)) for _ in range(raised)]
    np.copyto(left, np.inf, where=np.isneginf(left))
    down = [_taken(left, left.shape[1] - 1 - left[:, ::-1].argmin(1), np.inf) for _ in range(lowered)]
    return *_picked(strength, up), *_picked(strength, down[::-1])


def _taken(left: NDArray[np.float32], best: NDArray[np.intp], mark: float = -np.inf) -> NDArray[np.intp]:
    left[np.arange(len(left)), best] = mark
    return best


def _picked(
    strength: NDArray[np.float32], columns: list[NDArray[np.intp]]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    index = np.stack(columns, 1) if columns else np.zeros((len(strength), 0), np.intp)
    return index.astype(np.int32), np.take_along_axis(strength, index, 1)
