"""A contact sheet: rows of pictures, a title above each row and a line below each picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from pipeline.models.preprocess import centre_of

SIDE, GAP, TITLE, LINE = 112, 8, 26, 18  # pixels
INK, FAINT, PAPER = (20, 20, 20), (110, 110, 110), (255, 255, 255)


@dataclass(frozen=True)
class Row:
    """One row of a sheet. lines: what stands below each picture."""

    title: str
    pictures: Sequence[Image.Image]
    lines: Sequence[str]


def contact_sheet(rows: Sequence[Row]) -> Image.Image:
    """The sheet, RGB; each picture's centre square at 112 px, long lines cut to the width they have."""
    columns = max((len(row.pictures) for row in rows), default=0)
    width = GAP + max(columns, 4) * (SIDE + GAP)
    height = GAP + len(rows) * (TITLE + SIDE + LINE + GAP)
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    title, small = ImageFont.load_default(15), ImageFont.load_default(12)
    for number, row in enumerate(rows):
        top = GAP + number * (TITLE + SIDE + LINE + GAP)
        draw.text((GAP, top + 2), _cut(row.title, title, width - 2 * GAP), INK, font=title)
        for column, (picture, line) in enumerate(zip(row.pictures, row.lines, strict=True)):
            left = GAP + column * (SIDE + GAP)
            square = centre_of(picture.convert("RGB"), (SIDE, SIDE), Image.Resampling.BICUBIC)
            sheet.paste(square, (left, top + TITLE))
            draw.text((left, top + TITLE + SIDE + 2), _cut(line, small, SIDE), FAINT, font=small)
    return sheet


def _cut(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."
