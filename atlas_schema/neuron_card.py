"""A neuron as a card of HTML, for notebooks: its picture, what is said of it, the images that excite it."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping
from html import escape
from typing import Any

SHOWN = 4  # exciting images


class Neuron(dict[str, Any]):
    """The row of a neuron: a dictionary, which a notebook shows as a card.

    Picture and images are read when it is shown, not before.
    """

    def __init__(
        self, row: Mapping[str, Any], picture: Callable[[], bytes | None], images: Callable[[], Iterable[bytes]]
    ) -> None:
        super().__init__(row)
        self._picture, self._images = picture, images

    def __reduce__(self) -> tuple[type[dict[str, Any]], tuple[dict[str, Any]]]:
        return dict, (dict(self),)  # another process has the row; its pictures are asked for anew

    def _repr_html_(self) -> str:
        picture = self._picture()
        shown = _image(picture, 144, "optimized image") if picture else "<em>no picture</em>"
        thumbnails = "".join(_image(one, 64, "exciting image") for one in self._images())
        return (
            '<div style="display:flex;gap:12px;align-items:flex-start;font-family:sans-serif">'
            f"<div>{shown}</div><div><strong>{escape(str(self.get('address', 'a neuron')))}</strong>"
            f"<div>{'<br>'.join(self._lines())}</div><div>{thumbnails}</div></div></div>"
        )

    def _lines(self) -> list[str]:
        label, z, auroc = (self.get(name) for name in ("label", "label_z", "label_auroc"))
        told = [f"label: <b>{escape(label)}</b>" if label else "no label"]
        if label and z is not None and auroc is not None:
            told[0] += f" (z {z:.1f}, AUROC on held-out images {auroc:.2f})"
        if self.get("verdict"):
            told.append(f"picture: {escape(self['verdict'])}")
        if self.get("activation") is not None:
            told.append(f"activation of the picture: {self['activation']:.3g}")
        if self.get("peak_max") is not None:
            told.append(f"strongest patch of all probe images: {self['peak_max']:.3g}")
        return told


def _image(encoded: bytes, side: int, words: str) -> str:
    data = base64.b64encode(encoded).decode()
    return f'<img src="data:image/webp;base64,{data}" width="{side}" height="{side}" alt="{words}">'
