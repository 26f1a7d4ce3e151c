"""The label columns of a layer: texts in both views, the better one of each neuron, and how readable it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from pipeline.label.labels import LabelSettings, better_view, label_layer
from pipeline.label.readability import Readability, ReadabilitySettings, exciting_crops, random_crops, readability

MEASURES = ("clarity", "polysemanticity", "polysemanticity_p", "redundancy")


def label_rows(
    peaks: Tensor,
    windows: Tensor,
    views: Tensor,
    words: Tensor,
    *,
    fit: Tensor,
    texts: Sequence[str],
    settings: LabelSettings,
    layer_address: str,
    on_step: Callable[[], None] = lambda: None,
) -> list[dict[str, Any]]:
    """Label and readability columns of `neurons`, one row a unit of the layer.

    peaks, windows: (images, neurons) of the panel; views: (images, VIEWS, d) and words: (texts, d), each of length 1;
    fit: (images,) bool.
    """
    similarities = torch.einsum("ivd,td->ivt", views, words)
    by_crop = label_layer(peaks, windows, similarities, fit, texts, replace(settings, view="crop"))
    on_step()
    by_image = label_layer(peaks, windows, similarities, fit, texts, replace(settings, view="image"))
    on_step()
    read = _readable(peaks, windows, views, settings.readability)
    on_step()
    labels = better_view(by_crop, by_image, settings).rows()
    return [{"unit": unit, **row, **_row(read, unit, layer_address)} for unit, row in enumerate(labels)]


def _readable(peaks: Tensor, windows: Tensor, views: Tensor, settings: ReadabilitySettings) -> Readability:
    crops, alive = exciting_crops(peaks.to(views.device), windows.to(views.device), views, settings.crops)
    return readability(crops, random_crops(views, crops.shape[1], settings), alive=alive, settings=settings)


def _row(read: Readability, unit: int, layer_address: str) -> dict[str, Any]:
    twin = int(read.twin[unit])
    numbers = {name: float(getattr(read, name)[unit]) for name in MEASURES}
    finite = {name: value if math.isfinite(value) else None for name, value in numbers.items()}
    return {**finite, "twin": f"{layer_address}/{twin}" if twin >= 0 else None}
