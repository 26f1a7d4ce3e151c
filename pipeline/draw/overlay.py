"""A heatmap drawn over its image: red where a place adds along the direction, blue where it takes away."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

ADDS, TAKES = np.array([[0.84, 0.10, 0.11], [0.13, 0.35, 0.80]], dtype=np.float32)  # red, blue
STRONGEST = 0.85  # opacity of the largest value
FADED = 0.85  # how much of the image's colour is taken out below the heat
SIDE, GAP, LINE = 336, 12, 22  # pixels of a panel, between panels, of a line of text
INK, PAPER = (20, 20, 20), (255, 255, 255)


def overlay(picture: NDArray[np.float32], heat: NDArray[np.float32], scale: float) -> NDArray[np.uint8]:
    """A picture in grey under its heat in colour, uint8 (height, width, 3). picture: (height, width, 3) in [0, 1];
    heat: (height, width), signed; scale: the absolute value that is drawn strongest, all above it alike.
    """
    grey = picture.mean(2, keepdims=True)
    ground = picture + FADED * (grey - picture)
    strength = np.clip(heat / scale, -1, 1)[..., None] if scale > 0 else np.zeros_like(heat)[..., None]
    colour = np.where(strength > 0, ADDS, TAKES)
    mixed = ground + STRONGEST * np.abs(strength) * (colour - ground)
    return np.rint(np.clip(mixed, 0, 1) * 255).astype(np.uint8)


def scale_of(heat: NDArray[np.float32]) -> float:
    """What is drawn strongest: the 99.5th percentile of the absolute heat, so that one pixel does not rule."""
    return float(np.quantile(np.abs(heat), 0.995))


def panels(picture: NDArray[np.float32], heat: NDArray[np.float32], title: str) -> Image.Image:
    """The image, the image under its heat, and a bar of the colours with the value at its ends."""
    scale = scale_of(heat)
    height, width = picture.shape[:2]
    size = (SIDE, max(1, round(SIDE * height / width)))
    plain = np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)
    drawn = [plain, overlay(picture, heat, scale)]
    sheet = Image.new("RGB", (2 * SIDE + 3 * GAP, size[1] + 2 * LINE + 3 * GAP), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    draw.text((GAP, GAP), shortened(title, font, 2 * SIDE + GAP), INK, font=font)
    for column, drawn_panel in enumerate(drawn):
        panel = Image.fromarray(drawn_panel, "RGB").resize(size, Image.Resampling.BICUBIC)
        sheet.paste(panel, (GAP + column * (SIDE + GAP), GAP + LINE))
    _bar(sheet, scale, 2 * GAP + SIDE, size[1] + 2 * GAP + LINE)
    return sheet


def _bar(sheet: Image.Image, scale: float, left: int, top: int) -> None:
    """Colours from -scale to scale, with both ends written beside them."""
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    ends = f"{-scale:.2g}", f"{scale:.2g} a pixel"
    widths = [int(font.getlength(one)) + 6 for one in ends]
    span = SIDE - sum(widths)
    ramp = np.linspace(-1, 1, span, dtype=np.float32)[None].repeat(12, axis=0)
    colours = overlay(np.ones((12, span, 3), dtype=np.float32), ramp, 1.0)
    sheet.paste(Image.fromarray(colours, "RGB"), (left + widths[0], top + 2))
    draw.text((left, top), ends[0], INK, font=font)
    draw.text((left + SIDE - widths[1] + 6, top), ends[1], INK, font=font)


def shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """The text, cut where it would be wider than this many pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."
