"""The label columns of a layer: texts in both views, the better one of each neuron, and how readable it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from pipeline.labels import LabelSettings, better_view, label_layer


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
    """Rows of the stage `label`, one a unit of the layer.

    peaks, windows: (images, neurons) of the panel; views: (images, VIEWS, d) and words: (texts, d), each of length 1;
    fit: (images,) bool.
    """
    similarities = torch.einsum("ivd,td->ivt", views, words)
    by_crop = label_layer(peaks, windows, similarities, fit, texts, replace(settings, view="crop"))
    on_step()
    by_image = label_layer(peaks, windows, similarities, fit, texts, replace(settings, view="image"))
    on_step()
    rows: list[dict[str, Any]] = []
    for unit, row in enumerate(better_view(by_crop, by_image, settings.level).rows()):
        rows.append({"unit": unit, **row})
    return rows
